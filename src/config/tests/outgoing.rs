use url::Url;

use super::*;

fn read_with(text: &str, variables: &[(&'static str, &'static str)]) -> Result<Outgoing, String> {
    let mut fake = Fake::new();
    fake.variables.extend(variables.iter().copied());
    let loaded = parse(&complete(text), Path::new("conf/portcullis.toml"), &fake);
    loaded
        .map(|loaded| loaded.config.outgoing)
        .map_err(|errors| errors.to_string())
}

fn serves(outgoing: &Outgoing, url: &str) -> bool {
    outgoing
        .proxy
        .as_ref()
        .is_some_and(|proxy| proxy.serves(&Url::parse(url).unwrap()))
}

#[test]
fn environment_names_the_proxy_unless_the_file_does() {
    let variables = [
        ("HTTPS_PROXY", "http://ann:secret@env.example:1"),
        ("NO_PROXY", "a.test, ,b.test 10.0.0.0/8,?"),
    ];
    let by_environment = read_with("", &variables).unwrap();
    assert_eq!(
        by_environment.proxy.as_ref().unwrap().to_string(),
        "http://env.example:1"
    );
    assert!(by_environment.proxy.as_ref().unwrap().has_credentials());
    assert!(
        serves(&by_environment, "https://idp.test") && !serves(&by_environment, "https://x.b.test")
    );

    let by_file = read_with(
        "[outgoing]\nhttps_proxy = \"http://file.example:2\"",
        &variables,
    )
    .unwrap();
    let proxy = by_file.proxy.as_ref().unwrap();
    assert_eq!(
        (proxy.to_string().as_str(), proxy.has_credentials()),
        ("http://file.example:2", false)
    );
    assert!(
        !serves(&by_file, "https://a.test"),
        "`NO_PROXY` still counts"
    );
    let both = read_with("[outgoing]\nno_proxy = [\"c.test\"]", &variables).unwrap();
    assert!(serves(&both, "https://a.test") && !serves(&both, "https://c.test"));
    assert_eq!(
        read_with("[outgoing]\nhttps_proxy = \"none\"", &variables)
            .unwrap()
            .proxy,
        None
    );

    let lower = read_with("", &[("https_proxy", "lower.example:3"), ("no_proxy", "*")]).unwrap();
    assert_eq!(
        lower.proxy.as_ref().unwrap().to_string(),
        "http://lower.example:3"
    );
    assert!(!serves(&lower, "https://idp.test"));
    for unset in [
        &[][..],
        &[("HTTPS_PROXY", " ")],
        &[("HTTP_PROXY", "http://x:1"), ("ALL_PROXY", "http://x:1")],
    ] {
        assert_eq!(read_with("", unset).unwrap(), Outgoing::default());
    }
}

#[test]
fn unreadable_entries_of_no_proxy_are_one_warning() {
    let warnings = |text: &str, no_proxy: &'static str| {
        let mut fake = Fake::new();
        fake.variables.extend([
            ("HTTPS_PROXY", "http://p.example:1"),
            ("NO_PROXY", no_proxy),
        ]);
        let loaded = parse(&complete(text), Path::new("conf/portcullis.toml"), &fake).unwrap();
        let all = loaded.warnings.iter().map(ToString::to_string);
        all.filter(|warning| warning.contains("NO_PROXY"))
            .collect::<Vec<_>>()
    };
    let all = warnings("", "http://idp.corp, a.test,,10.*\nb.test secret:pass@x");
    let [one] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert!(
        one.contains("outgoing") && one.contains("number 1, 3, 5;") && !one.contains("secret"),
        "{one}"
    );
    assert!(warnings("", "a.test,*.b.test, 10.0.0.0/8 ,localhost,[::1]:443,").is_empty());
    assert!(
        warnings("[outgoing]\nno_proxy = [\"c.test\"]", "10.*").is_empty(),
        "the file counts instead"
    );
    assert!(
        warnings("[outgoing]\nhttps_proxy = \"none\"", "10.*").is_empty(),
        "there is no proxy"
    );
}

#[test]
fn invalid_proxy_variable_is_an_error_without_its_value() {
    let messages =
        read_with("", &[("HTTPS_PROXY", "socks5://ann:hunter2@proxy.example")]).unwrap_err();
    assert!(
        messages.contains("outgoing")
            && messages.contains("`HTTPS_PROXY`")
            && messages.contains("SOCKS"),
        "{messages}"
    );
    assert!(
        !messages.contains("hunter2") && !messages.contains("ann:"),
        "{messages}"
    );
    let mended = read_with(
        "[outgoing]\nhttps_proxy = \"none\"",
        &[("HTTPS_PROXY", "socks5://x")],
    );
    assert!(mended.is_ok(), "{mended:?}");
}

#[test]
fn offline_configuration_reads_no_environment() {
    let text = complete(
        "[outgoing]\nhttps_proxy = \"http://p.example\"\nhttps_proxy_credentials = \"env:X\"",
    );
    let loaded = parse(&text, Path::new("conf/portcullis.toml"), &Offline).unwrap();
    assert_eq!(
        loaded.config.outgoing.proxy.unwrap().to_string(),
        "http://p.example"
    );
    let loaded = parse(&complete(""), Path::new("conf/portcullis.toml"), &Offline).unwrap();
    assert_eq!(loaded.config.outgoing, Outgoing::default());
}
