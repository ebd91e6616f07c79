//! What the service says about flights, whatever the legacy program does to it.

mod support;

use headwater::streams::{KeyQuery, Query, WindowRangeQuery};
use headwater_flights::events::{HourlyDepartures, Leg, Rotation, RouteDelays};
use serde::{Deserialize, Serialize};
use support::*;

fn hourly(departures: i64, delays: i64) -> HourlyDepartures {
    HourlyDepartures {
        origin: "EWR".to_owned(),
        window_start: TEN,
        departures,
        sum_dep_delay_minutes: delays,
        mean_dep_delay_minutes: delays as f64 / departures as f64,
    }
}

fn route(flights: i64, delays: i64) -> RouteDelays {
    RouteDelays {
        origin: "EWR".to_owned(),
        dest: "IAH".to_owned(),
        flights,
        sum_arr_delay_minutes: delays,
        mean_arr_delay_minutes: delays as f64 / flights as f64,
    }
}

#[test]
fn a_flight_on_a_normal_day_is_in_all_answers() {
    let mut service = Service::with_references();
    service.weather("EWR|2013-01-01T10:00:00Z", 39.02, TEN);
    let plan = scheduled(1, TEN + 15 * MINUTE);
    service.tell(&plan, TEN - 6 * HOUR);
    let left = departed(&plan, 2);
    service.tell(&left, TEN + 17 * MINUTE);
    service.tell(&landed(&left, 227, 11), TEN + 244 * MINUTE);

    let rows = service.read("flights.enriched", |serdes| &serdes.enriched);
    let told: Vec<_> =
        rows.iter().map(|(key, row)| (key.as_str(), row.as_ref().unwrap().status.as_str())).collect();
    assert_eq!(told, [("1", "scheduled"), ("1", "departed"), ("1", "landed")]);
    let row = rows.into_iter().last().unwrap().1.unwrap();
    assert_eq!(row.airline.as_deref(), Some("United Air Lines Inc."));
    assert_eq!((row.aircraft_model.as_deref(), row.aircraft_seats), (Some("737-824"), Some(149)));
    assert_eq!(row.origin_name.as_deref(), Some("Newark Liberty Intl"));
    assert_eq!(row.dest_name.as_deref(), Some("George Bush Intercontinental"));
    assert_eq!((row.weather_temp, row.weather_visib), (Some(39.02), Some(10.0)));
    assert_eq!(
        (row.dep_delay_minutes, row.arr_delay_minutes, row.air_time_minutes),
        (Some(2), Some(11), Some(227))
    );

    let hour = service.read("departures.hourly", |serdes| &serdes.hourly);
    assert_eq!(hour, [("EWR|2013-01-01T10:00:00Z".to_owned(), Some(hourly(1, 2)))]);
    let rotation = Rotation {
        tailnum: "N14228".to_owned(),
        first_departure: TEN + 17 * MINUTE,
        last_arrival: TEN + 244 * MINUTE,
        legs: 1,
    };
    let rotations = service.read("aircraft.rotations", |serdes| &serdes.rotation);
    assert_eq!(rotations, [("N14228|2013-01-01T10:17:00Z".to_owned(), Some(rotation))]);
    assert_eq!(
        service.last("routes.delays", |serdes| &serdes.route),
        ("EWR|IAH".to_owned(), Some(route(1, 11)))
    );
}

#[test]
fn legs_within_twelve_hours_are_one_rotation_and_a_leg_between_two_joins_them() {
    let mut service = Service::start();
    let fly = |service: &mut Service, id, at| {
        let left = departed(&scheduled(id, at), 0);
        service.tell(&left, at);
        service.tell(&landed(&left, 60, 0), at + HOUR);
    };
    fly(&mut service, 1, TEN);
    fly(&mut service, 2, TEN + 20 * HOUR);
    fly(&mut service, 3, TEN + 10 * HOUR);
    let rows = service.read("aircraft.rotations", |serdes| &serdes.rotation);
    let told: Vec<_> = rows.into_iter().map(|(key, row)| (key, row.map(|row| row.legs))).collect();
    let key = |at: &str| format!("N14228|2013-01-{at}:00:00Z");
    let (first, second) = (key("01T10"), key("02T06"));
    let expected = [
        (first.clone(), Some(1)),
        (second.clone(), Some(1)),
        (first.clone(), None),
        (second, None),
        (first, Some(3)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_departure_told_late_but_within_twelve_hours_still_counts() {
    let mut service = Service::start();
    service.tell(&departed(&scheduled(1, TEN), 4), TEN + 4 * MINUTE);
    service.others_until(TEN + 13 * HOUR - 1);
    service.tell(&departed(&scheduled(2, TEN), 30), TEN + 30 * MINUTE);
    assert_eq!(service.last("departures.hourly", |serdes| &serdes.hourly).1, Some(hourly(2, 34)));
    assert!(service.driver.read_output("departures.late").is_empty());
}

#[test]
fn what_is_told_too_late_leaves_the_windows_alone_and_goes_to_the_late_streams() {
    let mut service = Service::start();
    let plan = scheduled(2, TEN);
    service.tell(&departed(&scheduled(1, TEN), 4), TEN + 4 * MINUTE);
    service.tell(&plan, TEN - HOUR);
    service.others_until(TEN + 13 * HOUR);
    service.driver.read_output("departures.hourly");
    let left = departed(&plan, 30);
    service.tell(&left, TEN + 30 * MINUTE);
    assert!(service.driver.read_output("departures.hourly").is_empty());
    let (key, late) = service.last("departures.late", |serdes| &serdes.departure);
    assert_eq!((key.as_str(), late.unwrap().flight_id), ("EWR", 2));

    service.others_until(TEN + 40 * HOUR);
    service.tell(&landed(&left, 60, 7), TEN + 90 * MINUTE);
    assert!(service.driver.read_output("aircraft.rotations").is_empty());
    let (departed_at, landed_at) = (TEN + 30 * MINUTE, TEN + 90 * MINUTE);
    let (origin, dest, tailnum) = ("EWR".to_owned(), "IAH".to_owned(), "N14228".to_owned());
    let leg = Leg { flight_id: 2, tailnum, origin, dest, departed_at, landed_at };
    assert_eq!(service.read("rotations.late", |serdes| &serdes.leg), [("N14228".to_owned(), Some(leg))]);
    assert_eq!(service.driver.metrics().dropped_late, 2);
    // Tables know no lateness.
    assert_eq!(service.last("routes.delays", |serdes| &serdes.route).1, Some(route(1, 7)));
    assert_eq!(service.last("flights.enriched", |serdes| &serdes.enriched).1.unwrap().status, "landed");
}

#[test]
fn a_corrected_arrival_delay_replaces_the_first_one_and_counts_nothing_twice() {
    let mut service = Service::start();
    let left = departed(&scheduled(1, TEN), 0);
    let other = landed(&departed(&scheduled(2, TEN), 0), 60, 10);
    service.tell(&other, TEN + HOUR);
    service.tell(&left, TEN);
    service.tell(&landed(&left, 60, 90), TEN + HOUR);
    assert_eq!(service.last("routes.delays", |serdes| &serdes.route).1, Some(route(2, 100)));
    service.driver.read_output("aircraft.rotations");
    service.driver.read_output("departures.hourly");
    service.tell(&landed(&left, 60, 9), TEN + 30 * HOUR);
    assert_eq!(service.last("routes.delays", |serdes| &serdes.route).1, Some(route(2, 19)));
    assert!(service.driver.read_output("aircraft.rotations").is_empty());
    assert!(service.driver.read_output("departures.hourly").is_empty());
}

#[test]
fn a_withdrawn_flight_leaves_a_tombstone_and_no_trace_in_the_sums() {
    let mut service = Service::start();
    let ghost = scheduled(400_000, TEN);
    service.tell(&ghost, TEN - 5 * HOUR);
    let withdrawn = headwater_flights::events::Flight { status: "withdrawn".to_owned(), ..ghost };
    service.tell(&withdrawn, TEN - HOUR);
    service.driver.pipe_input("flights", Some("400000".into()), None, TEN - HOUR).unwrap();
    let rows = service.read("flights.enriched", |serdes| &serdes.enriched);
    assert_eq!(rows.last().unwrap(), &("400000".to_owned(), None));
    for topic in ["departures.hourly", "aircraft.rotations", "routes.delays"] {
        assert!(service.driver.read_output(topic).is_empty(), "{topic}");
    }
}

#[test]
fn the_last_landed_flight_of_a_route_that_is_deleted_deletes_the_route() {
    let mut service = Service::start();
    service.tell(&landed(&departed(&scheduled(1, TEN), 0), 60, 5), TEN + HOUR);
    service.driver.pipe_input("flights", Some("1".into()), None, TEN + 2 * HOUR).unwrap();
    let rows = service.read("routes.delays", |serdes| &serdes.route);
    assert_eq!(rows, [("EWR|IAH".to_owned(), Some(route(1, 5))), ("EWR|IAH".to_owned(), None)]);
}

#[test]
fn weather_that_comes_after_the_flight_completes_it_and_a_correction_follows() {
    let mut service = Service::start();
    service.tell(&scheduled(1, TEN + 15 * MINUTE), TEN - HOUR);
    service.tell(&scheduled(2, TEN + HOUR), TEN - HOUR);
    let temperatures = |service: &mut Service| -> Vec<(String, Option<f64>)> {
        let rows = service.read("flights.enriched", |serdes| &serdes.enriched);
        rows.into_iter().map(|(key, row)| (key, row.unwrap().weather_temp)).collect()
    };
    assert_eq!(temperatures(&mut service), [("1".to_owned(), None), ("2".to_owned(), None)]);
    service.weather("EWR|2013-01-01T10:00:00Z", 39.02, TEN);
    assert_eq!(temperatures(&mut service), [("1".to_owned(), Some(39.02))]);
    service.driver.crash_and_wipe().unwrap();
    service.weather("EWR|2013-01-01T10:00:00Z", 39.92, TEN + HOUR);
    assert_eq!(temperatures(&mut service), [("1".to_owned(), Some(39.92))]);
}

#[test]
fn a_record_that_does_not_decode_goes_to_the_dead_letters_and_the_rest_flows() {
    let mut service = Service::start();
    service.driver.pipe_input("flights", Some("7".into()), Some("no Avro".into()), TEN).unwrap();
    service.tell(&scheduled(7, TEN), TEN);
    assert_eq!(service.read("flights.enriched", |serdes| &serdes.enriched).len(), 1);
    let letter = service.driver.read_output("flight-operations.dead-letter").pop().unwrap();
    assert_eq!((letter.key, letter.value), (Some("7".into()), Some("no Avro".into())));
    let header = |name: &str| {
        let header = letter.headers.iter().find(|header| header.key == format!("__streams.errors.{name}"));
        String::from_utf8(header.unwrap().value.clone().unwrap().to_vec()).unwrap()
    };
    assert_eq!((header("topic").as_str(), header("offset").as_str()), ("flights", "0"));
    assert!(header("exception").ends_with("the value"), "{}", header("exception"));
    assert!(!header("message").is_empty());
    assert_eq!(service.driver.metrics().deserialization_errors, 1);
}

#[test]
fn stores_answer_by_key_and_by_window() {
    let mut service = Service::start();
    for (id, at) in [(1, TEN), (2, TEN + 30 * MINUTE), (3, TEN + HOUR)] {
        let left = departed(&scheduled(id, at), 6);
        service.tell(&left, at + 6 * MINUTE);
        service.tell(&landed(&left, 60, -3), at + 66 * MINUTE);
    }
    let ask = |store: &str, query: Query| service.driver.query(store, &query).unwrap().unwrap();
    let key = |key: &str| Query::Key(KeyQuery { key: key.to_owned() });
    let window = WindowRangeQuery { key: Some("EWR".to_owned()), from: TEN, to: TEN, limit: 10 };
    let hour = ask("departures-by-hour", Query::WindowRange(window));
    assert_eq!((hour.len(), hour[0]["value"]["departures"].as_i64()), (1, Some(2)));
    assert_eq!(ask("departures-by-hour", key("EWR")).len(), 2);
    assert_eq!(ask("rotations", key("N14228"))[0]["value"]["legs"], 3);
    assert_eq!(ask("route-delays", key("EWR|IAH"))[0]["value"]["sum_arr_delay_minutes"], -9);
}

/// The weather as the connector writes it: all columns of the table.
#[derive(Serialize, Deserialize)]
struct WholeWeather {
    origin: String,
    year: i64,
    temp: Option<f64>,
    dewp: Option<f64>,
    wind_speed: Option<f64>,
    precip: Option<f64>,
    visib: Option<f64>,
    time_hour: String,
    updated_at: i64,
}

const WHOLE_WEATHER: &str = r#"{"type":"record","name":"Weather","namespace":"headwater.legacy","fields":[
    {"name":"origin","type":"string"},{"name":"year","type":"long"},
    {"name":"temp","type":["null","double"],"default":null},{"name":"dewp","type":["null","double"],"default":null},
    {"name":"wind_speed","type":["null","double"],"default":null},{"name":"precip","type":["null","double"],"default":null},
    {"name":"visib","type":["null","double"],"default":null},{"name":"time_hour","type":"string"},
    {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

#[test]
fn records_with_more_fields_than_this_service_reads_are_read() {
    let mut service = Service::start();
    let serde = service.avro.parse::<WholeWeather>(WHOLE_WEATHER).unwrap();
    let (origin, time_hour) = ("EWR".to_owned(), "2013-01-01T10:00:00Z".to_owned());
    let whole = WholeWeather {
        origin,
        year: 2013,
        temp: Some(28.04),
        dewp: Some(26.06),
        wind_speed: None,
        precip: Some(0.1),
        visib: None,
        time_hour,
        updated_at: TEN,
    };
    service.put("weather", &serde, "EWR|2013-01-01T10:00:00Z", &whole, TEN);
    service.tell(&scheduled(1, TEN), TEN - HOUR);
    let row = service.last("flights.enriched", |serdes| &serdes.enriched).1.unwrap();
    assert_eq!(
        (row.weather_temp, row.weather_wind_speed, row.weather_precip),
        (Some(28.04), None, Some(0.1))
    );
}

#[test]
fn the_manifest_says_what_the_topology_does() {
    let manifest = headwater_flights::manifest().unwrap();
    assert_eq!(manifest.group_id(), headwater_flights::APPLICATION_ID);
    let topology = headwater_flights::topology(&headwater::AvroSerdes::in_memory()).unwrap();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let inputs = manifest.inputs.values().map(|input| input.topic.clone()).collect();
    assert_eq!(sorted(topology.source_topics()), sorted(inputs));
    let outputs = manifest.outputs.values().map(|output| output.topic.clone()).collect();
    assert_eq!(sorted(topology.sink_topics()), sorted(outputs));
    let name = |name: &String, kind: &str| format!("{}-{name}-{kind}", manifest.group_id());
    let repartitions = manifest.internal.repartitions.iter().map(|topic| name(topic, "repartition"));
    let internal =
        repartitions.chain(manifest.internal.stores.iter().map(|store| name(store, "changelog"))).collect();
    let made = topology.internal_topics(&|topic| Some(partitions(topic))).unwrap();
    assert_eq!(sorted(made.into_iter().map(|topic| topic.name).collect()), sorted(internal));
    for output in manifest.outputs.values() {
        assert!(output.partitions == Some(partitions(&output.topic)), "{}", output.topic);
    }
}
