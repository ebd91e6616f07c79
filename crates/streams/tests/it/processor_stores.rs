//! Stores of windows and of sessions that processors use.

use headwater_streams::serdes::{i64, string};
use headwater_streams::{
    Consumed, Materialized, Processor, ProcessorContext, ProcessorError, Produced, SessionStateStore,
    StreamsBuilder, TopologyError, WindowStateStore,
};

use crate::support::*;

/// Keeps the last value of each key in windows of ten milliseconds; 0 asks for all of a key's, and -1 deletes one.
struct Windows(WindowStateStore<String, i64>);

impl Processor<String, i64, String, String> for Windows {
    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), ProcessorError> {
        let start = cx.timestamp() - cx.timestamp() % 10;
        let text = if value == 0 {
            let all = cx.fetch(&self.0, &key, 0, i64::MAX)?;
            all.iter().map(|(start, value)| format!("{start}:{value}")).collect::<Vec<_>>().join(" ")
        } else {
            let before = cx.get_window(&self.0, &key, start)?;
            let kept = cx.put_window(&self.0, &key, Some(value).filter(|value| *value > 0), start)?;
            format!("{before:?} {kept}")
        };
        cx.forward(key, text)?;
        Ok(())
    }
}

#[test]
fn a_processor_keeps_windows_for_their_retention_and_finds_them_by_key_and_time() {
    let builder = StreamsBuilder::new("app");
    let options = Materialized::with("windows", string(), i64()).retention(ms(100_000));
    let kept = builder.add_window_store(ms(10), options);
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || Windows(kept.clone()), &["windows"])
        .to("out", Produced::with(string(), string()));
    let mut driver = driver(builder);
    let changelog = &driver.internal_topics()[0];
    assert_eq!(changelog.name, "app-windows-changelog");
    assert!(changelog.configs.contains(&("cleanup.policy".to_owned(), "compact,delete".to_owned())));
    let mut step = |records: &[(&str, i64, i64)]| {
        for (key, value, time) in records {
            number(&mut driver, "in", key, *value, *time);
        }
        driver.crash_and_wipe().unwrap();
        let told = driver.read("out", (&string(), &string()));
        told.into_iter().map(|(_, text, _)| text.unwrap()).collect::<Vec<_>>()
    };
    let written = step(&[("k", 1, 5), ("other", 9, 6), ("k", 2, 15), ("k", 7, 16), ("k", 3, 70_000)]);
    assert_eq!(written, ["None true", "None true", "None true", "Some(2) true", "None true"]);
    assert_eq!(step(&[("k", 0, 70_001), ("other", 0, 70_002)]), ["0:1 10:7 70000:3", "0:9"]);
    assert_eq!(step(&[("k", -1, 15), ("k", 0, 70_003)]), ["Some(7) true", "0:1 70000:3"]);
    // The window that starts at 0 is the retention behind now.
    assert_eq!(step(&[("k", 4, 100_000), ("k", 0, 100_001)]), ["None true", "70000:3 100000:4"]);
    assert_eq!(step(&[("k", 5, 3), ("k", 0, 100_002)]), ["None false", "70000:3 100000:4"]);
}

#[test]
fn a_store_of_windows_asks_how_long_they_are_kept() {
    let builder = StreamsBuilder::new("app");
    builder.add_window_store(ms(10), Materialized::with("windows", string(), i64()));
    let error = builder.build().err().unwrap();
    assert!(matches!(&error, TopologyError::InvalidWindow { node, .. } if node == "windows"), "{error}");
    assert!(error.to_string().contains("Materialized::retention"), "{error}");
}

/// Keeps sessions from a record's time for as long as its value says; 0 asks for those that touch the record's time, and a negative
/// value deletes the one of that length.
struct Sessions(SessionStateStore<String, i64>);

impl Processor<String, i64, String, String> for Sessions {
    fn process(
        &mut self,
        key: String,
        value: i64,
        cx: &mut ProcessorContext<'_, '_, String, String>,
    ) -> Result<(), ProcessorError> {
        let time = cx.timestamp();
        let text = if value == 0 {
            let found = cx.find_sessions(&self.0, &key, (time, time))?;
            found
                .iter()
                .map(|(start, end, value)| format!("{start}-{end}:{value}"))
                .collect::<Vec<_>>()
                .join(" ")
        } else {
            let bounds = (time, time + value.abs());
            let kept = cx.put_session(&self.0, &key, Some(value).filter(|value| *value > 0), bounds)?;
            kept.to_string()
        };
        cx.forward(key, text)?;
        Ok(())
    }
}

#[test]
fn a_processor_keeps_sessions_for_their_retention_and_finds_them_by_their_bounds() {
    let builder = StreamsBuilder::new("app");
    let options = Materialized::with("sessions", string(), i64()).retention(ms(100_000));
    let kept = builder.add_session_store(options);
    builder
        .stream("in", Consumed::with(string(), i64()))
        .process(move || Sessions(kept.clone()), &["sessions"])
        .to("out", Produced::with(string(), string()));
    let mut driver = driver(builder);
    let mut step = |records: &[(&str, i64, i64)]| {
        for (key, value, time) in records {
            number(&mut driver, "in", key, *value, *time);
        }
        driver.crash_and_wipe().unwrap();
        let told = driver.read("out", (&string(), &string()));
        told.into_iter().map(|(_, text, _)| text.unwrap()).collect::<Vec<_>>()
    };
    let written = [("k", 20, 0), ("k", 70_000, 10), ("k", 5, 50), ("other", 9, 10)];
    assert_eq!(step(&written), ["true"; 4]);
    assert_eq!(
        step(&[("k", 0, 15), ("k", 0, 52), ("other", 0, 52)]),
        ["0-20:20 10-70010:70000", "50-55:5 10-70010:70000", ""]
    );
    assert_eq!(step(&[("k", -5, 50), ("k", 0, 52)]), ["true", "10-70010:70000"]);
    // The session that ended at 20 is the retention behind now.
    assert_eq!(step(&[("k", 1, 100_020), ("k", 0, 15), ("k", 3, 17)]), ["true", "10-70010:70000", "false"]);
}
