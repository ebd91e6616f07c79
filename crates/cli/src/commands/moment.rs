//! Times on the command line.

use headwater_model::TimestampMs;

/// `2013-06-01T00:00:00Z`, `2013-06-01T00:00:00.000` (UTC, as Kafka's tools have it), or milliseconds since 1970.
pub fn parse(text: &str) -> Result<TimestampMs, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let moment: Result<jiff::Timestamp, _> = text.parse();
    let moment = moment.or_else(|error| {
        let civil: jiff::civil::DateTime = text.parse().map_err(|_| error)?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp())
    });
    moment.map(|moment| moment.as_millisecond()).map_err(|error| error.to_string())
}

/// As a person reads it, in UTC.
pub fn text(time: TimestampMs) -> String {
    jiff::Timestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_utc() {
        let ms = 1_370_044_800_000;
        for text in ["2013-06-01T00:00:00Z", "2013-06-01T00:00:00.000", "2013-06-01T02:00:00+02:00"] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        assert_eq!(parse("1370044800000"), Ok(ms));
        assert!(parse("yesterday").is_err());
    }
}
