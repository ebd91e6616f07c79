SELECT
    CAST(f.id AS TEXT) AS _key,
    f.id,
    f.carrier,
    airlines.name AS airline,
    f.flight,
    f.tailnum,
    planes.manufacturer AS aircraft_manufacturer,
    planes.model AS aircraft_model,
    planes.year AS aircraft_year,
    planes.seats AS aircraft_seats,
    f.origin,
    origins.name AS origin_name,
    f.dest,
    dests.name AS dest_name,
    strftime('%Y-%m-%dT%H:%M:%SZ', times.scheduled_at, 'unixepoch') AS scheduled_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', times.departed_at, 'unixepoch') AS departed_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', times.landed_at, 'unixepoch') AS landed_at,
    f.dep_delay AS dep_delay_minutes,
    f.arr_delay AS arr_delay_minutes,
    f.air_time AS air_time_minutes,
    f.distance AS distance_miles,
    times.status,
    weather.temp AS weather_temp,
    weather.wind_speed AS weather_wind_speed,
    weather.precip AS weather_precip,
    weather.visib AS weather_visib
FROM main.flights AS f
JOIN main.times USING (id)
LEFT JOIN main.airlines ON airlines.carrier = f.carrier
LEFT JOIN main.planes ON planes.tailnum = f.tailnum
LEFT JOIN main.airports AS origins ON origins.faa = f.origin
LEFT JOIN main.airports AS dests ON dests.faa = f.dest
LEFT JOIN main.weather ON weather.origin = f.origin AND weather.time_hour = f.time_hour
ORDER BY _key
