//! Files that a configuration names.

use super::*;

#[test]
fn secret_is_read_without_byte_order_mark_and_line_end() {
    let part = |secret: &str| {
        complete(&format!(
            "[[identity_providers]]\nid = \"idp\"\nname = \"Idp\"\ntype = \"okta\"\nconfig = {{ client_id = \"x\", client_secret = \"{secret}\", \
             okta_account = \"https://dev-1.okta.com\" }}\n"
        ))
    };
    let read = |text: &'static str, secret: &str| {
        let mut env = Fake::new();
        env.files.insert("conf/marked".into(), (text, false));
        env.variables.insert("MARKED", text);
        let loaded = parse(&part(secret), Path::new("conf/portcullis.toml"), &env)
            .map_err(|errors| errors.to_string())?;
        let IdpKind::Okta(okta) = &loaded.config.catalog.identity_providers[0].kind else {
            panic!()
        };
        let ClientCredentials::Secret(secret) = &okta.client.credentials else {
            panic!()
        };
        Ok::<_, String>(secret.expose().to_owned())
    };
    for secret in ["file:marked", "env:MARKED"] {
        for text in [
            "s3cret +/",
            "s3cret +/\n",
            "s3cret +/\r\n",
            "\u{feff}s3cret +/",
            "\u{feff}s3cret +/\r\n",
        ] {
            assert_eq!(
                read(text, secret).as_deref(),
                Ok("s3cret +/"),
                "{text:?} in {secret}"
            );
        }
        for text in ["\u{feff}", "\u{feff}\r\n", "\n"] {
            assert!(
                read(text, secret).unwrap_err().contains("is empty"),
                "{text:?} in {secret}"
            );
        }
    }
}

#[test]
fn paths_are_relative_to_the_configuration_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portcullis.toml");
    assert!(
        load(&file, &System)
            .unwrap_err()
            .to_string()
            .ends_with("the file cannot be read: the file does not exist")
    );
    assert!(load(folder.path(), &System).is_err());
    std::fs::write(&file, b"\xff").unwrap();
    assert!(
        load(&file, &System)
            .unwrap_err()
            .to_string()
            .ends_with("the file is not UTF-8")
    );
    for (name, content) in [
        ("tls.crt", CERTIFICATE),
        ("tls.key", KEY),
        ("secret", "hunter2-and-then-some\n"),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let text = EXAMPLE
        .replace("/etc/portcullis/", "")
        .replace("env:OKTA_CLIENT_SECRET", "file:secret");
    std::fs::write(&file, &text).unwrap();
    let config = load(&file, &System)
        .unwrap_or_else(|e| panic!("{e}"))
        .config;
    assert_eq!(
        config.listen[0].tls.as_ref().unwrap().key,
        folder.path().join("tls.key")
    );
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    let errors = load(&file, &System).unwrap_err();
    assert_eq!(errors.0.len(), 1, "{errors}");
}

#[cfg(unix)]
#[test]
fn file_readable_by_all_is_recognised() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "x").unwrap();
    for (mode, open) in [(0o600, false), (0o640, false), (0o644, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(System.read(&file).unwrap().world_readable, open);
    }
    assert!(System.read(folder.path()).is_err(), "a folder is no file");
}
