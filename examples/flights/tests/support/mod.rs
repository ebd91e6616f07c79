//! The service's topology around topics in memory, and flights to feed it with.

use std::sync::Arc;

use headwater::AvroSerdes;
use headwater::streams::serdes::string;
use headwater::streams::{SerdeRef, TopologyTestDriver};
use headwater_flights::events::{Aircraft, Airline, Airport, Flight, Serdes, Weather};

/// 2013-01-01T10:00:00Z.
pub const TEN: i64 = 1_357_034_400_000;
pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;

pub struct Service {
    pub driver: TopologyTestDriver,
    pub serdes: Serdes,
    pub avro: AvroSerdes,
}

impl Service {
    pub fn start() -> Self {
        let avro = AvroSerdes::in_memory();
        let topology = headwater_flights::topology(&avro).unwrap();
        let driver = TopologyTestDriver::with_partitions(topology, &partitions).unwrap();
        Self { driver, serdes: Serdes::new(&avro).unwrap(), avro }
    }

    pub fn with_references() -> Self {
        let mut service = Self::start();
        let airline = Airline { name: "United Air Lines Inc.".to_owned() };
        let (manufacturer, model) = ("BOEING".to_owned(), "737-824".to_owned());
        let aircraft = Aircraft { manufacturer, model, year: Some(1999), seats: 149 };
        let airport = |name: &str| Airport { name: name.to_owned() };
        let Serdes { airline: airlines, aircraft: planes, airport: airports, .. } = &service.serdes;
        let (airlines, planes, airports) = (airlines.clone(), planes.clone(), airports.clone());
        service.put("airlines", &airlines, "UA", &airline, 0);
        service.put("aircraft", &planes, "N14228", &aircraft, 0);
        service.put("airports", &airports, "EWR", &airport("Newark Liberty Intl"), 0);
        service.put("airports", &airports, "IAH", &airport("George Bush Intercontinental"), 0);
        service
    }

    pub fn put<T>(&mut self, topic: &str, serde: &SerdeRef<T>, key: &str, value: &T, time: i64) {
        self.driver.pipe(topic, (&string(), serde), (&key.to_owned(), value), time).unwrap();
    }

    /// What the legacy program says of a flight now.
    pub fn tell(&mut self, flight: &Flight, happened_at: i64) {
        let serde = self.serdes.flight.clone();
        self.put("flights", &serde, &flight.id.to_string(), &Arc::new(flight.clone()), happened_at);
    }

    pub fn weather(&mut self, key: &str, temp: f64, time: i64) {
        let weather =
            Weather { temp: Some(temp), wind_speed: Some(12.5), precip: Some(0.0), visib: Some(10.0) };
        let serde = self.serdes.weather.clone();
        self.put("weather", &serde, key, &weather, time);
    }

    /// Other flights are told of, so that every partition of the table knows what time it is.
    pub fn others_until(&mut self, time: i64) {
        for id in 1_000..1_040 {
            self.tell(&scheduled(id, time + 5 * HOUR), time);
        }
    }

    /// Rows of a topic since the last call, `None` for tombstones.
    pub fn read<T>(
        &mut self,
        topic: &str,
        serde: impl Fn(&Serdes) -> &SerdeRef<T>,
    ) -> Vec<(String, Option<T>)> {
        let serde = serde(&self.serdes).clone();
        self.driver.read(topic, (&string(), &serde)).into_iter().map(|(key, value, _)| (key, value)).collect()
    }

    /// The last row of the topic, which there must be.
    pub fn last<T>(&mut self, topic: &str, serde: impl Fn(&Serdes) -> &SerdeRef<T>) -> (String, Option<T>) {
        self.read(topic, serde).pop().unwrap_or_else(|| panic!("nothing was written to {topic}"))
    }
}

pub fn partitions(topic: &str) -> i32 {
    match topic {
        "flights" | "flights.enriched" => 4,
        "weather" | "departures.hourly" | "aircraft.rotations" | "routes.delays" => 2,
        _ => 1,
    }
}

/// UA1545 from Newark to Houston.
pub fn scheduled(id: i64, at: i64) -> Flight {
    let hour = at.div_euclid(HOUR) * HOUR;
    let hours = (hour - TEN) / HOUR + 10;
    Flight {
        id,
        carrier: "UA".to_owned(),
        flight: 1545,
        tailnum: Some("N14228".to_owned()),
        origin: "EWR".to_owned(),
        dest: "IAH".to_owned(),
        time_hour: format!("2013-01-{:02}T{:02}:00:00Z", 1 + hours / 24, hours % 24),
        scheduled_at: at,
        departed_at: None,
        landed_at: None,
        dep_delay: None,
        arr_delay: None,
        air_time: None,
        distance: 1400,
        status: "scheduled".to_owned(),
    }
}

pub fn departed(flight: &Flight, delay: i64) -> Flight {
    Flight {
        departed_at: Some(flight.scheduled_at + delay * MINUTE),
        dep_delay: Some(delay),
        status: "departed".to_owned(),
        ..flight.clone()
    }
}

pub fn landed(flight: &Flight, air_time: i64, arr_delay: i64) -> Flight {
    Flight {
        landed_at: flight.departed_at.map(|departed| departed + air_time * MINUTE),
        air_time: Some(air_time),
        arr_delay: Some(arr_delay),
        status: "landed".to_owned(),
        ..flight.clone()
    }
}
