use std::cell::OnceCell;
use std::net::IpAddr;

use http::Method;

use super::truth::Truth;
use super::values::Country;
use crate::model::UnixTime;

/// A fact about a request that may be present, absent or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It could not be determined.
    Unknown,
    /// The request has none.
    Absent,
    /// The request has this one.
    Present(T),
}

impl<T> Fact<T> {
    pub(super) fn is(&self, holds: impl FnOnce(&T) -> bool) -> Truth {
        match self {
            Self::Unknown => Truth::Unknown,
            Self::Absent => Truth::False,
            Self::Present(fact) => holds(fact).into(),
        }
    }
}

/// A database of the countries of IP addresses.
pub trait Countries: std::fmt::Debug + Send + Sync {
    /// Returns the country of an IP address; `None` if it is unknown.
    fn country(&self, ip: IpAddr) -> Option<Country>;
}

/// The facts about a request, apart from the user.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The client's IP address in canonical form, so an IPv4-mapped address is IPv4; `None` if a
    /// description leaves it open.
    pub ip: Option<IpAddr>,
    /// Its method.
    pub method: &'a Method,
    /// Its time.
    pub now: UnixTime,
    /// The id of the service token that it presents.
    pub service_token: Fact<&'a str>,
    /// The common name of the client certificate that it presents.
    pub certificate: Fact<&'a str>,
    /// The id of the linked application that issued a token in the request.
    pub linked_app: Fact<&'a str>,
    /// The country database; all are unknown without it.
    pub countries: Option<&'a dyn Countries>,
    /// The country, looked up when the first rule depends on it.
    pub country: OnceCell<Option<Country>>,
}

impl<'a> Facts<'a> {
    /// Creates facts with unknown credentials: the caller fills in the service token, the
    /// certificate and the linked application if it read them.
    pub const fn new(
        ip: IpAddr,
        method: &'a Method,
        now: UnixTime,
        countries: Option<&'a dyn Countries>,
    ) -> Self {
        Self {
            ip: Some(ip),
            method,
            now,
            service_token: Fact::Unknown,
            certificate: Fact::Unknown,
            linked_app: Fact::Unknown,
            countries,
            country: OnceCell::new(),
        }
    }

    pub(super) fn is_in(&self, country: Country) -> Truth {
        let found = self.country.get_or_init(|| {
            self.countries
                .and_then(|countries| countries.country(self.ip?))
        });
        found.map(|found| found == country).into()
    }
}
