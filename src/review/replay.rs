use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::ask::{Asked, Moment};
use super::people::Person;
use crate::policy::{Country, Verb};

/// A request that was once made, as the audit log has it.
#[derive(Debug)]
pub(super) struct Replayed {
    /// The user; `None` without a session.
    pub(super) person: Option<Person>,
    /// The request.
    pub(super) asked: Asked,
}

/// The content of an audit log.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The requests that can be replayed, in the order of the log.
    pub(super) requests: Vec<Replayed>,
    /// The number of requests of users without a login in the log, so that their groups are
    /// unknown.
    pub(super) strangers: usize,
    /// Requests with the token of another application, which the log names otherwise than rules do.
    pub(super) linked: usize,
}

/// An audit event; fields that are not read here are passed over.
#[derive(Deserialize)]
struct Event {
    target: String,
    event: String,
    timestamp: Option<jiff::Timestamp>,
    application: Option<String>,
    email: Option<String>,
    user: Option<String>,
    idp: Option<String>,
    client: Option<IpAddr>,
    country: Option<Country>,
    service_token_id: Option<String>,
    common_name: Option<String>,
    linked_application: Option<String>,
    method: Option<String>,
    host: Option<String>,
    path: Option<String>,
    /// The rest is in the events of logins: JSON, which other subscribers than the standalone
    /// proxy's write as a text.
    groups: Option<Value>,
    amr: Option<Value>,
    claims: Option<Value>,
}

impl Log {
    /// Reads a log in JSON, a line for each event. Other lines are passed over.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let unreadable = |e: std::io::Error| format!("cannot read `{}`: {e}", file.display());
        let (mut log, mut people, mut events) = (Self::default(), HashMap::new(), 0);
        for line in BufReader::new(std::fs::File::open(file).map_err(unreadable)?).split(b'\n') {
            let Ok(event) = serde_json::from_slice::<Event>(&line.map_err(unreadable)?) else {
                continue;
            };
            if event.target == crate::observe::audit::TARGET {
                events += 1;
                log.take(event, &mut people);
            }
        }
        match events {
            0 => Err(format!(
                "`{}` has no audit events; they are lines of JSON with `\"target\":\"{}\"`",
                file.display(),
                crate::observe::audit::TARGET
            )),
            _ => Ok(log),
        }
    }

    fn take(&mut self, event: Event, people: &mut HashMap<String, Person>) {
        let whole = |host: &str, path: &str| format!("https://{host}{path}");
        let url = match (
            event.event.as_str(),
            &event.application,
            &event.host,
            &event.path,
        ) {
            ("login", Some(application), _, _) => application.clone(),
            ("access", _, Some(host), Some(path)) if !path.starts_with("/cdn-cgi/access/") => {
                whole(host, path)
            }
            // Denied at login.
            ("access", Some(application), _, _) => application.clone(),
            _ => return,
        };
        if event.linked_application.is_some() {
            self.linked += 1;
            return;
        }
        let (is_login, user) = (event.event == "login", event.user.clone());
        if let (true, Some(user), Some(person)) = (is_login, &user, event.person()) {
            people.insert(user.clone(), person);
        }
        let person = match &user {
            None => None,
            Some(user) => match people.get(user) {
                Some(person) => Some(person.clone()),
                None => {
                    self.strangers += 1;
                    return;
                }
            },
        };
        let method = event
            .method
            .filter(|_| !is_login)
            .and_then(|method| Verb::try_from(method).ok());
        let asked = Asked {
            url,
            method,
            ip: event.client,
            country: event.country,
            at: event.timestamp.map(Moment),
            service_token: event.service_token_id,
            certificate: event.common_name,
            linked_app: None,
        };
        self.requests.push(Replayed { person, asked });
    }
}

impl Event {
    /// Returns the user of a login event with an identity.
    fn person(&self) -> Option<Person> {
        let list = |field: &Option<Value>| field.as_ref().and_then(read::<Vec<String>>);
        // An identity in the log always has claims.
        let claims = Some(self.claims.as_ref().and_then(read::<Map<String, Value>>)?);
        self.idp.as_ref()?;
        Some(Person {
            email: self.email.clone()?,
            idp: self.idp.clone(),
            groups: list(&self.groups),
            amr: list(&self.amr),
            claims,
            // The log does not have it.
            ..Person::default()
        })
    }
}

fn read<T: DeserializeOwned>(field: &Value) -> Option<T> {
    match field {
        Value::String(text) => serde_json::from_str(text).ok(),
        value => T::deserialize(value).ok(),
    }
}
