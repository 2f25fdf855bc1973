//! The same checks for JSON: the whole configuration, and objects from other sources.

use serde_json::Value as Json;

use super::*;
use crate::catalog::Kind;

/// Converts TOML to the JSON with the same content.
fn converted(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(list) => list.into_iter().map(converted).collect(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| (key, converted(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

fn as_json(toml: &str) -> Option<Document> {
    let table: toml::Table = toml.parse().ok()?;
    let text = converted(toml::Value::Table(table)).to_string();
    Some(Document::json(&text, Path::new("conf/portcullis.json")).unwrap())
}

/// Returns the TOML key for a JSON pointer.
fn dotted(pointer: &str) -> String {
    let mut key = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let is_bare = !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if part.parse::<usize>().is_ok() {
            key += &format!("[{part}]");
            continue;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key += &if is_bare { part } else { format!("{part:?}") };
    }
    key
}

/// Returns the message without its reference to an earlier value, which has a line or a pointer.
fn without_reference(message: &str) -> String {
    let cut = [", on line ", ", at `/"]
        .into_iter()
        .find_map(|start| message.split_once(start))
        .and_then(|(before, rest)| Some((before, rest.split_once("; each")?.1)));
    match cut {
        Some((before, after)) => format!("{before}, earlier; each{after}"),
        None => message.to_owned(),
    }
}

fn problems(read: Result<Loaded, Errors>) -> Vec<Problem> {
    match read {
        Ok(loaded) => loaded.warnings,
        Err(Errors(errors)) => errors,
    }
}

#[test]
fn example_in_json_gives_the_same_configuration() {
    for text in [EXAMPLE.to_owned(), complete("")] {
        let json = check(&[as_json(&text).unwrap()], &Fake::new()).unwrap();
        let toml = read(&text).unwrap();
        assert_eq!(json.config, toml.config);
        assert_eq!(json.warnings.len(), toml.warnings.len());
    }
}

#[test]
fn mistakes_in_json_have_the_same_messages_with_a_pointer() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config-mistakes.txt");
    let golden = std::fs::read_to_string(path).unwrap();
    let mut compared = 0;
    for case in golden.split("\n=== ").skip(1) {
        let (written, _) = case.split_once("\n---\n").unwrap();
        let (name, part) = written.split_once('\n').unwrap();
        let text = complete(part);
        let Some(document) = as_json(&text) else {
            // A syntax error of TOML has no counterpart.
            continue;
        };
        let mut expected: Vec<_> = problems(read(&text))
            .into_iter()
            // JSON has no hexadecimal numbers.
            .map(|p| {
                (
                    p.key,
                    without_reference(&p.message).replace("`0x1000`", "`4096`"),
                )
            })
            .collect();
        let found = problems(check(&[document], &Fake::new()));
        assert!(found.iter().all(|p| p.position.is_none()), "{name}");
        let mut found: Vec<_> = found
            .into_iter()
            .map(|p| (dotted(&p.key), without_reference(&p.message)))
            .collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}");
        compared += found.len();
    }
    assert!(compared > 450, "{compared}");
}

#[test]
fn problem_in_json_shows_document_and_pointer() {
    let text = complete("[store]\n\"a/b~c\" = 1\n");
    let errors = check(&[as_json(&text).unwrap()], &Fake::new()).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "conf/portcullis.json: /store/a~1b~0c: there is no key `a/b~c` here"
    );
    let file = Path::new("conf/portcullis.json");
    for (text, line, message) in [
        ("{", 1, "this is not JSON: it ends too early"),
        (
            "{\"a\": 1,\n\"a\": 2}",
            2,
            "this is not JSON: a key occurs twice in one object",
        ),
        (
            "{\"client_secret\": hunter2-and-then-some}",
            1,
            "this is not JSON: there is a syntax error here",
        ),
    ] {
        let Errors(problems) = Document::json(text, file).unwrap_err();
        assert_eq!(problems[0].message, message);
        assert_eq!(problems[0].position.unwrap().0, line);
    }
    let list = Document::json("[]", file).unwrap();
    let errors = check(&[list], &Fake::new()).unwrap_err().to_string();
    assert_eq!(
        errors,
        "conf/portcullis.json: this is a list; it must be a table"
    );
}

fn with_objects(objects: &[(Kind, &str)]) -> Result<Loaded, Errors> {
    let file = Document::toml(complete(""), Path::new("conf/portcullis.toml"))?;
    let mut documents = vec![file];
    for (kind, body) in objects {
        documents.push(Document::object(body, *kind, None)?);
    }
    check(&documents, &Fake::new())
}

const WIKI: &str = r#"{"id": "wiki", "name": "Wiki", "domain": "wiki.example.com", "origin": "http://127.0.0.1:8080",
    "same_site_cookie_attribute": null, "destinations": null, "policies": [{"name": "staff", "decision": "allow",
    "include": [{"group": {"id": "staff"}}], "exclude": null}]}"#;
const STAFF: &str = r#"{"id": "staff", "include": [{"email_domain": {"domain": "example.com"}}]}"#;

#[test]
fn objects_join_the_configuration_whatever_their_order() {
    for objects in [
        [(Kind::Group, STAFF), (Kind::Application, WIKI)],
        [(Kind::Application, WIKI), (Kind::Group, STAFF)],
    ] {
        let config = with_objects(&objects)
            .unwrap_or_else(|e| panic!("{e}"))
            .config;
        let ids: Vec<_> = config
            .catalog
            .applications
            .iter()
            .map(|a| a.id.as_str())
            .collect();
        assert_eq!(ids, ["other.example.com", "wiki"]);
    }
}

#[test]
fn mistake_of_an_object_has_a_pointer_into_it() {
    let said = |objects: &[(Kind, &str)]| with_objects(objects).unwrap_err().to_string();
    assert_eq!(
        said(&[(Kind::Application, WIKI)]),
        "a new application: /policies/0/include/0/group/id: no group has the id `staff`; none is defined"
    );
    let twice = WIKI.replace("wiki.example.com", "other.example.com");
    assert_eq!(
        said(&[(Kind::Group, STAFF), (Kind::Application, &twice)]),
        "a new application: /domain: another application claims `other.example.com`, on line 13 of \
         conf/portcullis.toml; each needs its own"
    );
    // A change of one object can invalidate another one.
    let bypass = WIKI.replace("\"allow\"", "\"bypass\"");
    assert!(
        said(&[(Kind::Group, STAFF), (Kind::Application, &bypass)])
            .starts_with("a new application: /policies/0/include/0: the group `staff` asks")
    );
    assert!(
        said(&[(Kind::Group, "[]")]).contains("a new group: this is a list; it must be a table")
    );
}

#[test]
fn object_s_secret_is_verbatim_and_no_reference() {
    let provider = |secret: &str| {
        let body = json!({
            "id": "second", "name": "Second", "type": "okta",
            "config": { "client_id": "x", "client_secret": secret, "okta_account": "https://dev-2.okta.com" },
        });
        let config = with_objects(&[(Kind::IdentityProvider, &body.to_string())])?.config;
        let IdpKind::Okta(okta) = &config.catalog.identity_providers[1].kind else {
            panic!()
        };
        let ClientCredentials::Secret(secret) = &okta.client.credentials else {
            panic!()
        };
        Ok::<_, Errors>(secret.expose().to_owned())
    };
    for secret in ["s3cret", "env:OKTA_CLIENT_SECRET", "file:secret"] {
        assert_eq!(provider(secret).unwrap(), secret);
    }
    assert!(
        provider(" ")
            .unwrap_err()
            .to_string()
            .contains("the secret is empty")
    );
}

#[test]
fn document_does_not_show_its_content() {
    let text = format!("{{\"client_secret\": \"{HIDDEN}\"}}");
    let document = Document::object(&text, Kind::IdentityProvider, None).unwrap();
    assert!(!format!("{document:?} {document:#?}").contains(HIDDEN));
}

/// A source with the objects of a test.
struct Objects(Vec<(Kind, &'static str)>);

impl Source for Objects {
    fn documents(&self) -> Result<Vec<Document>, Errors> {
        let object = |(kind, body): &(Kind, &str)| Document::object(body, *kind, None);
        self.0.iter().map(object).collect()
    }
}

#[test]
fn sources_are_loaded_as_one_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portcullis.toml");
    let text = complete("").replace("\"tls.crt\"", "\"/etc/portcullis/tls.crt\"");
    let text = text.replace("\"tls.key\"", "\"/etc/portcullis/tls.key\"");
    std::fs::write(&path, text).unwrap();
    let file = File::new(&path);
    let load = |objects: Vec<_>| load_from(&[&file, &Objects(objects)], &Fake::new());
    let config = load(vec![(Kind::Application, WIKI), (Kind::Group, STAFF)])
        .unwrap_or_else(|e| panic!("{e}"))
        .config;
    assert_eq!(config.catalog.applications.len(), 2);
    let error = load(vec![(Kind::Group, "{")]).unwrap_err().to_string();
    assert_eq!(
        error,
        "a new group:1:1: this is not JSON: it ends too early"
    );
    let missing = File::new(&folder.path().join("missing.toml"));
    let errors = load_from(
        &[&missing, &Objects(vec![(Kind::Group, "{")])],
        &Fake::new(),
    );
    assert_eq!(errors.unwrap_err().0.len(), 2, "one of each source");
}
