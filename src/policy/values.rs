use std::fmt;

use http::Method;
use ipnet::IpNet;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::model::UnixTime;

/// An IP address or a network. It keeps its text, so that it is written as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange {
    text: String,
    net: IpNet,
}

impl IpRange {
    /// The network; IPv4-mapped IPv6 addresses are IPv4.
    pub const fn net(&self) -> IpNet {
        self.net
    }
}

impl TryFrom<String> for IpRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let net = text.parse::<IpNet>().ok().or_else(|| {
            text.parse()
                .ok()
                .map(|ip: std::net::IpAddr| IpNet::from(ip.to_canonical()))
        });
        let net = net.ok_or_else(|| {
            format!("`{text}` is neither an IP address nor a network like `203.0.113.0/24`")
        })?;
        let net = match net {
            IpNet::V6(v6) => match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
                (Some(v4), Some(prefix)) => ipnet::Ipv4Net::new(v4, prefix)
                    .map(IpNet::V4)
                    .map_err(|_| format!("`{text}` is not a network"))?,
                (Some(_), None) => {
                    return Err(format!(
                        "`{text}` contains IPv4 and IPv6 addresses; write two rules"
                    ));
                }
                (None, _) => net,
            },
            IpNet::V4(_) => net,
        };
        if net.trunc() != net {
            return Err(format!(
                "`{text}` has bits beyond its prefix; write `{}`",
                net.trunc()
            ));
        }
        Ok(Self { text, net })
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.text
    }
}

/// A country by its two letters (ISO 3166-1 alpha-2), as MaxMind's databases have them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// Reads a code; case does not matter.
    pub fn parse(text: &str) -> Option<Self> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
                Some(Self([a.to_ascii_uppercase(), b.to_ascii_uppercase()]))
            }
            _ => None,
        }
    }
}

impl TryFrom<String> for Country {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
            .ok_or_else(|| format!("`{text}` is not a two-letter country code, such as `DE`"))
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.to_string()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Country({self})")
    }
}

/// A request method, in capitals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Verb(pub Method);

impl TryFrom<String> for Verb {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let capitals = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase());
        let method = if capitals {
            Method::from_bytes(text.as_bytes()).ok()
        } else {
            None
        };
        method
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a method in capitals, such as `GET`"))
    }
}

impl From<Verb> for String {
    fn from(verb: Verb) -> Self {
        verb.0.as_str().to_owned()
    }
}

/// A window of time on some days of the week, in a time zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TimeWindowText", into = "TimeWindowText")]
pub struct TimeWindow {
    text: TimeWindowText,
    from: Time,
    to: Time,
    /// Monday first.
    days: [bool; 7],
    zone: TimeZone,
}

/// The same as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeWindowText {
    /// The first minute, `08:00`.
    pub from: String,
    /// The first minute after it. If that is before `from`, the window ends on the next day.
    pub to: String,
    /// The days on which it begins, `mon` to `sun`; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// The time zone's name in the tz database: `Europe/Berlin`.
    pub time_zone: String,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl TimeWindow {
    /// Returns `true` if a time is within the window; `None` beyond the calendar's range.
    pub fn holds(&self, now: UnixTime) -> Option<bool> {
        let now = jiff::Timestamp::from_second(i64::try_from(now.0).ok()?).ok()?;
        let now = self.zone.to_datetime(now);
        let (time, today) = (now.time(), now.weekday());
        let begins = |day: Weekday| {
            self.days
                .get(usize::from(day.to_monday_zero_offset().unsigned_abs()))
                == Some(&true)
        };
        let yesterday = today.previous();
        Some(if self.from < self.to {
            begins(today) && self.from <= time && time < self.to
        } else {
            begins(today) && self.from <= time || begins(yesterday) && time < self.to
        })
    }
}

impl TimeWindow {
    /// Returns the day and the time of day in that time zone, for display; `None` beyond the
    /// calendar's range.
    pub fn local(&self, now: UnixTime) -> Option<String> {
        let now = jiff::Timestamp::from_second(i64::try_from(now.0).ok()?).ok()?;
        Some(format!(
            "{} in {}",
            self.zone.to_datetime(now).strftime("%a %H:%M"),
            self.text.time_zone
        ))
    }
}

impl TryFrom<TimeWindowText> for TimeWindow {
    type Error = String;
    fn try_from(text: TimeWindowText) -> Result<Self, String> {
        let time = |at: &str| {
            let (hour, minute) = at.split_once(':')?;
            let two =
                |digits: &str| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit());
            let whole = two(hour) && two(minute);
            whole.then(|| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok())?
        };
        let clock = |at: &str| {
            time(at).ok_or_else(|| format!("`{at}` is not a time of day, such as `08:00`"))
        };
        let (from, to) = (clock(&text.from)?, clock(&text.to)?);
        if from == to {
            return Err(format!(
                "`{}` to `{}` is an empty time window; remove the rule to cover the whole day",
                text.from, text.to
            ));
        }
        let mut days = [text.days.is_empty(); 7];
        for day in &text.days {
            let place = DAYS.iter().position(|known| known == day);
            let slot = place.and_then(|place| days.get_mut(place));
            *slot.ok_or_else(|| format!("`{day}` is not one of `{}`", DAYS.join("`, `")))? = true;
        }
        let zone = TimeZone::get(&text.time_zone).map_err(|_| {
            format!(
                "unknown time zone `{}`; write for example `Europe/Berlin`",
                text.time_zone
            )
        })?;
        Ok(Self {
            text,
            from,
            to,
            days,
            zone,
        })
    }
}

impl From<TimeWindow> for TimeWindowText {
    fn from(window: TimeWindow) -> Self {
        window.text
    }
}
