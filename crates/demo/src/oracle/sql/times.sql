-- When things happened, from the original rows (seconds, UTC), and when the departure was typed in, which only the
-- legacy database knows.
CREATE TABLE times AS
SELECT
    id,
    scheduled_at,
    departed_at,
    landed_at,
    CASE
        WHEN departed_at IS NULL THEN 'cancelled'
        WHEN landed_at IS NULL THEN 'diverted'
        ELSE 'landed'
    END AS status,
    recorded_at,
    -- Hourly windows: 12 hours after the hour's end nothing enters it.
    departed_at - departed_at % 3600 AS hour_start,
    recorded_at >= departed_at - departed_at % 3600 + 3600 + 12 * 3600 AS departure_dropped,
    -- Rotations: gap 12 hours and grace 24, so after two days nothing enters; after less than one everything does.
    max(landed_at, recorded_at) AS leg_recorded_at,
    max(landed_at, recorded_at) >= departed_at + 48 * 3600 AS leg_dropped
FROM (
    SELECT
        id,
        unixepoch(original.time_hour) + original.minute * 60 AS scheduled_at,
        unixepoch(original.time_hour) + (original.minute + original.dep_delay) * 60 AS departed_at,
        unixepoch(original.time_hour) + (original.minute + original.dep_delay + original.air_time) * 60 AS landed_at,
        legacy.departure_recorded_at / 1000 AS recorded_at
    FROM main.flights AS original LEFT JOIN legacy.flights AS legacy USING (id)
);
CREATE UNIQUE INDEX times_id ON times (id);
CREATE INDEX times_departed_at ON times (departed_at);
