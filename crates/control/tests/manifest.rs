//! Manifests as people write them, right and wrong.

use headwater_control::{Guarantee, Manifest, ManifestError};

const COMPLETE: &str = r#"
[service]
name = "flight-insights"
team = "team-flights"
description = "Enriches departures"
tags = ["pii-free", "tier-1"]

[inputs.flights]
topic = "flights"

[outputs.enriched]
topic = "flights-enriched"
schema = "schemas/enriched.avsc"
partitions = 4
[outputs.enriched.config]
"cleanup.policy" = "compact"
"retention.ms" = -1
"segment.bytes" = 0x1000_0000

[internal]
repartitions = ["by-tailnum"]
stores = ["rotations"]

[[streams]]
topic = "corrections"

[runtime]
guarantee = "at-least-once"
commit_interval_ms = 250
"#;

fn complaint(text: &str) -> String {
    Manifest::parse(text, "headwater.toml").unwrap_err().to_string()
}

#[test]
fn a_complete_manifest_is_read_and_names_the_clients() {
    let manifest = Manifest::parse(COMPLETE, "headwater.toml").unwrap();
    assert_eq!(manifest.client_id(), "flight-insights");
    assert_eq!(manifest.group_id(), "flight-insights");
    assert_eq!(manifest.service.tags, ["pii-free", "tier-1"]);
    assert_eq!(manifest.input("flights"), Some("flights"));
    assert_eq!(manifest.output("enriched"), Some("flights-enriched"));
    let enriched = &manifest.outputs["enriched"];
    assert_eq!(enriched.partitions, Some(4));
    assert_eq!(enriched.config["retention.ms"], "-1");
    assert_eq!(enriched.config["segment.bytes"], "268435456");
    assert_eq!(manifest.internal.stores, ["rotations"]);
    assert_eq!(manifest.streams[0].topic, "corrections");
    assert_eq!(manifest.runtime.guarantee, Some(Guarantee::AtLeastOnce));
    assert_eq!(manifest.runtime.commit_interval_ms, Some(250));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let error = Manifest::parse("[service]\nname = \"a\"\nteem = \"b\"\n", "x/headwater.toml").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("x/headwater.toml:3: unknown key `teem` in [service]"), "{text}");
    assert!(text.contains("did you mean `team`?"), "{text}");
    let text = complaint("[service]\nname = \"a\"\nteam = \"b\"\n[input.orders]\ntopic = \"orders\"\n");
    assert!(text.contains(":4:") && text.contains("did you mean `inputs`?"), "{text}");
    let text = complaint("[service]\nname = \"a\"\nteam = \"b\"\n[outputs.o]\ntopic = \"o\"\nzzz = 1\n");
    assert!(text.contains(":6:") && text.contains("[outputs.o]") && !text.contains("did you mean"), "{text}");
}

#[test]
fn missing_keys_and_wrong_types_say_what_to_write() {
    let text = complaint("[service]\nname = \"a\"\n");
    assert!(text.contains("[service] lacks `team`") && text.contains("team = \"team-orders\""), "{text}");
    assert!(complaint("").contains("lacks `service`"));
    let text = complaint("[service]\nname = \"a\"\nteam = 3\n");
    assert!(text.contains(":3: `team` in [service] is an integer, but must be a string"), "{text}");
    let text = complaint("[service]\nname = \"a\"\nteam = \"b\"\n[inputs.x]\ndescription = \"no topic\"\n");
    assert!(text.contains("[inputs.x] lacks `topic`"), "{text}");
}

#[test]
fn illegal_names_and_values_are_refused() {
    let service = "[service]\nname = \"a\"\nteam = \"b\"\n";
    assert!(complaint("[service]\nname = \"a b\"\nteam = \"c\"\n").contains(":2:"));
    assert!(
        complaint(&format!("{service}[outputs.x]\ntopic = \"o\"\n[outputs.y]\ntopic = \"o\"\n"))
            .contains("twice")
    );
    assert!(
        complaint(&format!("{service}[outputs.x]\ntopic = \"o\"\npartitions = 0\n"))
            .contains("from 1 upwards")
    );
    let text = complaint(&format!("{service}[runtime]\nguarantee = \"exactly\"\n"));
    assert!(text.contains(":5:") && text.contains("\"exactly-once\" or \"at-least-once\""), "{text}");
}

#[test]
fn broken_toml_and_missing_files_are_located() {
    let text = complaint("[service]\nname = \n");
    assert!(text.starts_with("headwater.toml:2:"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headwater.toml");
    let error = Manifest::load(&path).unwrap_err();
    assert!(matches!(error, ManifestError::Read { .. }));
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    std::fs::write(&path, COMPLETE).unwrap();
    assert_eq!(Manifest::load(&path).unwrap().service.team, "team-flights");
}
