-- As if 24 minutes had passed since the last cycle, and the view that fails had
-- just been tried once more.
UPDATE bigbrotr_refresher.history SET started_at = started_at - interval '24 min',
	cycle_start = cycle_start - interval '24 min',
	schedule_start = schedule_start - interval '24 min'
WHERE started_at > now() - interval '20 min';
UPDATE bigbrotr_refresher.view_state SET last_attempt = last_attempt - interval '24 min',
	last_success = last_success - interval '24 min',
	data_as_of = data_as_of - interval '24 min',
	cycle_start = cycle_start - interval '24 min',
	schedule_start = schedule_start - interval '24 min'
WHERE failures = 0;
UPDATE bigbrotr_refresher.view_state SET last_success = last_success - interval '144 min',
	data_as_of = data_as_of - interval '144 min'
WHERE failures > 0;
