/* bigbrotr_refresher--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION bigbrotr_refresher" to load this file. \quit
