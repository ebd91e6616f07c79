//! UTC milliseconds as ISO 8601 text with seconds, `2013-01-01T10:00:00Z`; without a heap, for each row has some.

pub(super) type Text = [u8; 20];

/// First instant of year 0, and of year 10000: outside of it the text would not have four digits for the year.
const RANGE: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;

/// `None` when the year does not have four digits.
pub(super) fn format(millis: i64) -> Option<Text> {
    if !RANGE.contains(&millis) {
        return None;
    }
    let seconds = millis.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second / 3600);
    digits(&mut text[14..16], second / 60 % 60);
    digits(&mut text[17..19], second % 60);
    Some(text)
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, `chrono`-Compatible Low-Level Date
/// Algorithms, `civil_from_days`): years begin in March, so that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn known_instants_are_told_as_iso_8601() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_357_034_400_000, "2013-01-01T10:00:00Z"),
            (1_357_034_400_999, "2013-01-01T10:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (RANGE.start, "0000-01-01T00:00:00Z"),
            (RANGE.end - 1, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(
                format(millis).as_ref().map(|text| text.as_slice()),
                Some(text.as_bytes()),
                "{millis}"
            );
        }
        assert_eq!(format(RANGE.end), None);
        assert_eq!(format(i64::MIN), None);
    }

    #[test]
    fn every_day_of_the_range_is_the_day_that_sqlite_names() {
        let connection = Connection::open_in_memory().unwrap();
        let mut named = connection.prepare("SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ?1, 'unixepoch')").unwrap();
        // A step that is coprime to days, so that times of day vary too.
        let mut seconds = RANGE.start / 1000;
        while seconds < RANGE.end / 1000 {
            let expected: String = named.query_row([seconds], |row| row.get(0)).unwrap();
            assert_eq!(format(seconds * 1000).unwrap(), expected.as_bytes(), "{seconds}");
            seconds += 86_400 * 29 + 3_661;
        }
    }
}
