CREATE TABLE airlines (
    carrier TEXT PRIMARY KEY NOT NULL,
    name    TEXT NOT NULL
);
CREATE TABLE airports (
    faa   TEXT PRIMARY KEY NOT NULL,
    name  TEXT NOT NULL,
    lat   REAL NOT NULL,
    lon   REAL NOT NULL,
    alt   INTEGER NOT NULL, -- feet
    tz    INTEGER NOT NULL, -- hours from UTC
    dst   TEXT NOT NULL,
    tzone TEXT
);
CREATE TABLE planes (
    tailnum      TEXT PRIMARY KEY NOT NULL,
    year         INTEGER,
    type         TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    model        TEXT NOT NULL,
    engines      INTEGER NOT NULL,
    seats        INTEGER NOT NULL,
    speed        INTEGER, -- miles per hour
    engine       TEXT NOT NULL
);
CREATE TABLE weather (
    id         INTEGER PRIMARY KEY NOT NULL,
    origin     TEXT NOT NULL REFERENCES airports (faa),
    year       INTEGER NOT NULL, -- year to hour: New York time
    month      INTEGER NOT NULL,
    day        INTEGER NOT NULL,
    hour       INTEGER NOT NULL,
    temp       REAL, -- °F
    dewp       REAL, -- °F
    humid      REAL, -- %
    wind_dir   INTEGER, -- degrees
    wind_speed REAL, -- miles per hour
    wind_gust  REAL, -- miles per hour
    precip     REAL, -- inches
    pressure   REAL, -- millibars
    visib      REAL, -- miles
    time_hour  TEXT NOT NULL, -- the hour in UTC, ISO 8601
    updated_at INTEGER NOT NULL -- when the row was typed in; UTC, milliseconds
);
CREATE INDEX weather_updated_at ON weather (updated_at);
CREATE TABLE flights (
    id                    INTEGER PRIMARY KEY NOT NULL,
    year                  INTEGER NOT NULL, -- year to day: New York time
    month                 INTEGER NOT NULL,
    day                   INTEGER NOT NULL,
    dep_time              INTEGER, -- local time, HHMM
    sched_dep_time        INTEGER NOT NULL,
    dep_delay             INTEGER, -- minutes; before departure: as announced
    arr_time              INTEGER,
    sched_arr_time        INTEGER NOT NULL,
    arr_delay             INTEGER, -- minutes
    carrier               TEXT NOT NULL REFERENCES airlines (carrier),
    flight                INTEGER NOT NULL,
    tailnum               TEXT,
    origin                TEXT NOT NULL REFERENCES airports (faa),
    dest                  TEXT NOT NULL, -- some destinations are not in airports
    air_time              INTEGER, -- minutes
    distance              INTEGER NOT NULL, -- miles
    hour                  INTEGER NOT NULL,
    minute                INTEGER NOT NULL,
    time_hour             TEXT NOT NULL, -- the scheduled hour in UTC, ISO 8601
    status                TEXT NOT NULL
        CHECK (status IN ('scheduled', 'departed', 'landed', 'diverted', 'cancelled', 'withdrawn')),
    scheduled_at          INTEGER NOT NULL, -- from here on: UTC, milliseconds
    departed_at           INTEGER,
    landed_at             INTEGER, -- departed_at + air_time: the data set knows no taxiing
    happened_at           INTEGER NOT NULL, -- when the last change happened, whenever it was typed in
    departure_recorded_at INTEGER -- when the departure was typed in
);
