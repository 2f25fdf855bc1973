//! A real SAML identity provider: SimpleSAMLphp as a process (`tests/saml/simplesamlphp/start`),
//! and logins there.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;
use url::Url;

use super::browser::{Browser, Page};
use super::okta::PASSWORD;
use super::portcullis::Process;

/// Its name.
pub const ISSUER: &str = "https://idp.example/saml";

/// A running SimpleSAMLphp. Stopped when dropped.
pub struct SimpleSamlPhp {
    /// Its URL for requests.
    pub sso: String,
    folder: TempDir,
    _process: Process,
}

impl SimpleSamlPhp {
    /// Starts one, with `options.json` as `start` describes it.
    pub async fn start(options: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("options.json"), options.to_string()).unwrap();
        let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/saml/simplesamlphp/start");
        let mut process = Process(Command::new(start).arg(folder.path()).spawn().unwrap());
        let log = folder.path().join("php.log");
        let deadline = Instant::now() + Duration::from_secs(20);
        let port = loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some((_, rest)) = said.split_once("(http://127.0.0.1:") {
                break rest.split(')').next().unwrap().to_owned();
            }
            let ended = process.0.try_wait().unwrap().is_some();
            assert!(
                !ended && Instant::now() < deadline,
                "SimpleSAMLphp does not start: {said}"
            );
            sleep(Duration::from_millis(20)).await;
        };
        let sso = format!("http://127.0.0.1:{port}/simplesaml/saml2/idp/SSOService.php");
        Self {
            sso,
            folder,
            _process: process,
        }
    }

    /// Has it work otherwise from now on.
    pub fn set(&self, options: &Value) {
        fs::write(self.folder.path().join("options.json"), options.to_string()).unwrap();
    }

    /// Registers the service provider with that metadata alone.
    pub fn knows(&self, metadata: &str) {
        fs::write(self.folder.path().join("sp.xml"), metadata).unwrap();
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        ["php.log", "simplesamlphp.log"]
            .map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default())
            .concat()
    }
}

/// The course of a login.
#[derive(Debug)]
pub struct Visit {
    /// The last page.
    pub page: Page,
    /// The number of password prompts.
    pub asked: usize,
    /// The request, if it came in a form.
    pub request: Option<String>,
    /// The response, if there was one.
    pub response: Option<String>,
}

/// Opens a page, fills in the sign-in form as `login`, and submits the forms on the way.
pub async fn visit(browser: &mut Browser, url: &str, login: &str) -> Visit {
    visit_until(browser, url, login, "SAMLResult").await
}

/// The same up to a form with that field, which is not sent.
pub async fn visit_until(browser: &mut Browser, url: &str, login: &str, stop: &str) -> Visit {
    let mut visit = Visit {
        page: browser.open(url).await,
        asked: 0,
        request: None,
        response: None,
    };
    for _ in 0..6 {
        let Some(mut form) = Form::on(&visit.page) else {
            return visit;
        };
        let message = |name| {
            form.field(name)
                .map(|text| String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap())
        };
        visit.request = visit.request.or_else(|| message("SAMLRequest"));
        visit.response = visit.response.or_else(|| message("SAMLResponse"));
        if form.field(stop).is_some() {
            return visit;
        }
        if form.field("AuthState").is_some() {
            visit.asked += 1;
            form.fields.extend(
                [("username", login), ("password", PASSWORD)]
                    .map(|(name, value)| (name.into(), value.into())),
            );
        }
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&form.fields)
            .finish();
        visit.page = if form.action.host() == visit.page.url.host() {
            browser.post(form.action.as_str(), &body).await
        } else {
            browser
                .post_from_elsewhere(form.action.as_str(), &body)
                .await
        };
    }
    panic!("forms without end: {visit:?}")
}

struct Form {
    action: Url,
    fields: Vec<(String, String)>,
}

impl Form {
    /// The form of a login on that page, with the fields that have a value.
    fn on(page: &Page) -> Option<Self> {
        let html = page.response.text();
        let form = html.split("<form").nth(1)?.split("</form>").next()?;
        let attribute = |tag: &str, name: &str| {
            let value = tag
                .split(&format!(" {name}=\""))
                .nth(1)?
                .split('"')
                .next()?;
            let entities = [
                ("&quot;", "\""),
                ("&#039;", "'"),
                ("&lt;", "<"),
                ("&gt;", ">"),
                ("&amp;", "&"),
            ];
            Some(
                entities
                    .iter()
                    .fold(value.to_owned(), |text, (entity, letter)| {
                        text.replace(entity, letter)
                    }),
            )
        };
        let inputs = form
            .split("<input")
            .skip(1)
            .map(|input| input.split('>').next().unwrap_or(input));
        let fields: Vec<_> = inputs
            .filter(|input| input.contains(r#" type="hidden""#))
            .filter_map(|input| Some((attribute(input, "name")?, attribute(input, "value")?)))
            .collect();
        let ours = ["SAMLRequest", "SAMLResponse", "AuthState"];
        fields
            .iter()
            .any(|(name, _)| ours.contains(&name.as_str()))
            .then_some(())?;
        Some(Self {
            action: page.url.join(&attribute(form, "action")?).unwrap(),
            fields,
        })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }
}
