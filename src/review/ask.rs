use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, Method, Uri};
use serde::Deserialize;

use crate::config::{self, Config, Errors, Offline, Problem};
use crate::control;
use crate::engine::{self, Application, Explanation, NodeCache, Origins, Snapshot};
use crate::model::{CleanPath, HostPort, Identity, Reason, RequestView, UnixTime};
use crate::policy::{Country, Fact, Facts, Requester, Verb};

/// A configuration that is examined, not run.
#[derive(Debug)]
pub struct World {
    /// The configuration, before it is compiled.
    pub config: Config,
    /// The compiled form, which decides.
    pub snapshot: Snapshot,
    /// Notes about files that it refers to and that are absent.
    pub notes: Vec<String>,
}

/// The description of a request. Omitted credentials are absent. An omitted IP address or country
/// is unknown.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The whole URL, or the id or name of an application, for its first page.
    pub url: String,
    /// The method; `GET` if omitted.
    #[serde(default)]
    pub method: Option<Verb>,
    /// The client's address.
    #[serde(default)]
    pub ip: Option<IpAddr>,
    /// The country; that of the IP address if omitted.
    #[serde(default)]
    pub country: Option<Country>,
    /// The time, such as `2026-05-04T08:30:00Z`; now if omitted.
    #[serde(default)]
    pub at: Option<Moment>,
    /// The id of a service token.
    #[serde(default)]
    pub service_token: Option<String>,
    /// The common name of a client certificate.
    #[serde(default)]
    pub certificate: Option<String>,
    /// The id of the linked application that issued a token in the request.
    #[serde(default)]
    pub linked_app: Option<String>,
}

/// A time, in quotes or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Moment(pub jiff::Timestamp);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Date(toml::value::Datetime),
}

impl TryFrom<Written> for Moment {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let text = match written {
            Written::Text(text) => text,
            Written::Date(date) => date.to_string(),
        };
        text.parse()
            .map(Self)
            .map_err(|_| format!("`{text}` is not a time such as `2026-05-04T08:30:00Z`"))
    }
}

/// The outcome of a described request, with everything that it depended on.
#[derive(Debug)]
pub struct Answer {
    /// The engine's explanation.
    pub explanation: Explanation,
    /// The whole URL.
    pub url: Uri,
    /// The method.
    pub method: Method,
    /// The client's IP address.
    pub ip: Option<IpAddr>,
    /// The country, if described, or if a rule depended on it.
    pub country: Option<Country>,
    /// The time.
    pub at: UnixTime,
    /// The user; `None` without a session.
    pub identity: Option<Identity>,
    /// The other credentials: a service token, a certificate, a linked application's token.
    pub presented: [Option<String>; 3],
}

impl Answer {
    /// Returns the name of the policy that decided, if one did.
    pub fn policy(&self) -> Option<&str> {
        let index = self.explanation.verdict?.policy?;
        let decides = self.explanation.outcome.is_of_policies();
        self.explanation
            .application
            .as_ref()?
            .policy(index)
            .filter(|_| decides)
            .map(|(name, _)| name)
    }
}

impl World {
    /// Reads a configuration. Other files, such as secrets and certificates, need not exist.
    ///
    /// # Errors
    ///
    /// Every mistake in it.
    pub fn load(file: &Path) -> Result<Self, Errors> {
        Self::new(config::load(file, &Offline)?.config, file)
    }

    pub(super) fn new(config: Config, file: &Path) -> Result<Self, Errors> {
        let known = Arc::new(NodeCache::new(1));
        let snapshot = control::snapshot(&config, 0, known, |_| Origins::new(()))
            .map_err(|e| Errors(vec![Problem::of_file(file, &e.to_string())]))?;
        // Without the database, the country of an IP address is unknown.
        let mut notes = Vec::new();
        let countries = config.geo.as_ref().and_then(|geo| {
            let opened = control::CountryFile::open(&geo.database);
            opened
                .map_err(|error| {
                    notes.push(format!("{error}; countries are known only if specified"))
                })
                .ok()
        });
        let snapshot = snapshot.with_countries(countries.map(|countries| Arc::new(countries) as _));
        Ok(Self {
            config,
            snapshot,
            notes,
        })
    }

    /// Decides a described request of a user.
    ///
    /// # Errors
    ///
    /// The mistake in the description.
    pub fn ask(
        &self,
        identity: Option<&Identity>,
        asked: &Asked,
        now: UnixTime,
    ) -> Result<Answer, String> {
        let url = self.url(&asked.url)?;
        let authority = url.authority().map_or("", http::uri::Authority::as_str);
        let authority =
            HostPort::parse(authority).map_err(|e| format!("`{authority}` is not a host: {e}"))?;
        let path = CleanPath::parse(url.path());
        let method = asked
            .method
            .as_ref()
            .map_or(Method::GET, |verb| verb.0.clone());
        let now = match asked.at {
            Some(Moment(at)) => UnixTime(
                u64::try_from(at.as_second()).map_err(|_| format!("`{at}` is before 1970"))?,
            ),
            None => now,
        };
        let headers = HeaderMap::new();
        let ip = asked.ip.map(|ip| ip.to_canonical());
        let client = ip.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let present = |text: &'_ Option<String>| text.clone();
        let presented = [&asked.service_token, &asked.certificate, &asked.linked_app].map(present);
        let [service_token, certificate, linked_app] = presented
            .each_ref()
            .map(|text| text.as_deref().map_or(Fact::Absent, Fact::Present));
        let certificate = if self.snapshot.takes_certificates(&authority.host) {
            certificate
        } else {
            Fact::Unknown
        };
        let facts = Facts {
            ip,
            service_token,
            certificate,
            linked_app,
            ..Facts::new(client, &method, now, self.snapshot.countries())
        };
        if asked.country.is_some() {
            let _ = facts.country.set(asked.country);
        }
        let visitor = identity.map(|identity| Requester::User {
            email: &identity.email,
            identity: Some(identity),
        });
        let explanation = match path {
            Ok(path) => {
                let query = url.query();
                let request = RequestView {
                    method: &method,
                    authority,
                    path,
                    query,
                    headers: &headers,
                    client,
                    tls: None,
                };
                engine::explain(&self.snapshot, &request, visitor, &facts)
            }
            // Same answer as that of a front, which rejects it before the decision.
            Err(_) => Explanation::refused(Reason::PathAmbiguous),
        };
        let country = facts.country.get().copied().flatten();
        Ok(Answer {
            explanation,
            url: url.clone(),
            method: method.clone(),
            ip,
            country,
            at: now,
            identity: identity.cloned(),
            presented,
        })
    }

    /// Returns the URL of a request.
    fn url(&self, text: &str) -> Result<Uri, String> {
        let named = |application: &&Arc<Application>| {
            let settings = application.settings();
            settings.id == text || settings.name == text
        };
        if let Some(application) = self.snapshot.applications().iter().find(named) {
            return self.first_page(application);
        }
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let url = whole.parse::<Uri>().ok().filter(|url| {
            matches!(url.scheme_str(), Some("https" | "http"))
                && url.host().is_some_and(|host| host.contains('.'))
        });
        url.ok_or_else(|| {
            let ids = self.snapshot.applications().iter().map(|a| format!("`{}`", a.settings().id));
            let ids = ids.take(20).collect::<Vec<_>>().join(", ");
            format!("`{text}` is neither a URL like `https://app.example.com/` nor an application; configured: {ids}")
        })
    }

    /// Returns the less specific domains that cover the same URL as an application's, from the most
    /// specific on.
    pub(super) fn less_specific(&self, application: &Application, url: &Uri) -> Vec<String> {
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        let covers = |other: &&Arc<Application>| {
            let domain = &other.settings().domain;
            other.aud() != application.aud()
                && domain.covers_host(&host)
                && domain.covers_path(url.path())
        };
        self.snapshot
            .applications()
            .iter()
            .filter(covers)
            .map(|other| other.settings().domain.to_string())
            .collect()
    }

    /// Returns the first page of an application, with `x` for each star.
    ///
    /// # Errors
    ///
    /// The application's domain has no URL.
    pub(super) fn first_page(&self, application: &Application) -> Result<Uri, String> {
        let domain = &application.settings().domain;
        let base = self
            .snapshot
            .team()
            .url_of(&domain.host().replace('*', "x"));
        let page = format!("{base}{}", domain.path().replace('*', "x"));
        page.parse().map_err(|e| format!("`{page}`: {e}"))
    }
}
