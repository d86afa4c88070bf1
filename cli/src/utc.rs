//! Dates and times in UTC, as people and certificates have them.

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// `2026-11-26` and `14:12:00` of so many seconds since 1970; `None` beyond the year 9999.
#[must_use]
pub fn date_and_time(seconds: i64) -> Option<(String, String)> {
    let at = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    let date = format!("{year:04}-{:02}-{day:02}", u8::from(month));
    Some((date, format!("{hour:02}:{minute:02}:{second:02}")))
}

/// The seconds since 1970; `None` where there is no such date or time.
#[must_use]
pub fn seconds(year: i32, [month, day, hour, minute, second]: [u8; 5]) -> Option<i64> {
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let time = Time::from_hms(hour, minute, second).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        // By date(1).
        for (at, date, time) in [
            (0, "1970-01-01", "00:00:00"),
            (951_827_696, "2000-02-29", "12:34:56"),
            (-631_152_000, "1950-01-01", "00:00:00"),
            (253_402_300_799, "9999-12-31", "23:59:59"),
        ] {
            assert_eq!(date_and_time(at), Some((date.to_owned(), time.to_owned())));
            let parts: Vec<u8> = format!("{}:{time}", &date[5..])
                .split(['-', ':'])
                .map(|part| part.parse().unwrap())
                .collect();
            assert_eq!(seconds(date[..4].parse().unwrap(), parts.try_into().unwrap()), Some(at));
        }
        assert_eq!(date_and_time(253_402_300_800), None);
        assert_eq!(seconds(2025, [2, 29, 0, 0, 0]), None);
        assert_eq!(seconds(2025, [13, 1, 0, 0, 0]), None);
        assert_eq!(seconds(2025, [1, 1, 24, 0, 0]), None);
    }
}
