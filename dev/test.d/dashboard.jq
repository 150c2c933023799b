# A dashboard as TypeScript, for the compiler to hold it to the types that
# Grafana publishes: the dashboard, and what these leave open, the options and
# fields of each panel by its type, and the queries of Prometheus ($prometheus:
# whether the release has types for these).
#
# In JSON, an enumeration is its value.  Values that have defaults are left out.

def prefix: {
	barchart: "BarChart", bargauge: "BarGauge", stat: "Stat", table: "Table",
	timeseries: "TimeSeries"
};

def path($kind; $part): "@grafana/schema/dist/esm/raw/composable/\($kind)/\($part)";

def panels: [.panels[] | select(.type != "row")];

def has_fields: .type | IN("barchart", "table", "timeseries");

"import type { Dashboard, AnnotationQuery } from '@grafana/schema';",
(panels | map(.type) | unique[] |
	"import type * as \(.) from '\(path(.; "panelcfg/x/\(prefix[.])PanelCfg_types.gen"))';"),
(if $prometheus then
	"import type { PrometheusDataQuery } from '\(path("prometheus"; "dataquery/x/PrometheusDataQuery_types.gen"))';"
else empty end),
"type Json<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T",
"  : T extends Array<infer U> ? Array<Json<U>> : { [K in keyof T]: Json<T[K]> };",
"type Some<T> = T extends string | number | boolean | null | undefined ? T",
"  : T extends Array<infer U> ? Array<Some<U>> : { [K in keyof T]?: Some<T[K]> };",
# What the data source of Prometheus has in an annotation beside that.
"type Annotation = Json<AnnotationQuery> & { expr: string; step: string; titleFormat: string; textFormat: string };",
"export const dashboard: Json<Dashboard> = \(.annotations.list = []);",
(.annotations.list[] | "export const annotation: Annotation = \(del(.target));"),
(panels[] |
	"export const options_\(.id): Some<Json<\(.type).Options>> = \(.options);",
	(select(has_fields) |
		"export const fields_\(.id): Some<Json<\(.type).FieldConfig>> = \(.fieldConfig.defaults.custom);"),
	(select($prometheus) |
		"export const targets_\(.id): Array<Json<PrometheusDataQuery>> = \(.targets);"))
