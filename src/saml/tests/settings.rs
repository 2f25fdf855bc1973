use crate::model::Secret;
use crate::saml::testing::settings;
use crate::saml::{
    CertificateError, DecryptionKey, DecryptionKeyError, ServiceProvider, Settings, SettingsError,
};

const IDP: &str = include_str!("../../../tests/saml/keys/idp.crt");

fn with(certificates: &[&str]) -> Result<(), SettingsError> {
    let certificates = certificates.iter().map(|text| (*text).to_owned()).collect();
    ServiceProvider::new(Settings {
        certificates,
        ..settings()
    })
    .map(drop)
}

#[test]
fn certificates_are_read_in_all_common_forms() {
    let bare: String = IDP.lines().filter(|line| !line.starts_with('-')).collect();
    let lines: String = IDP
        .lines()
        .filter(|line| !line.starts_with('-'))
        .map(|line| format!("{line}\r\n"))
        .collect();
    for good in [
        IDP,
        bare.as_str(),
        lines.as_str(),
        &IDP.replace('\n', "\r\n"),
        &format!("\n  {IDP}\n"),
    ] {
        assert_eq!(with(&[good]), Ok(()));
    }
    assert_eq!(
        with(&[IDP, include_str!("../../../tests/saml/keys/idp-next.crt")]),
        Ok(())
    );
}

#[test]
fn unusable_certificate_is_reported_with_its_position() {
    let wrong = |text: &str, source| {
        assert_eq!(
            with(&[IDP, text]),
            Err(SettingsError::Certificate {
                position: 2,
                source
            })
        )
    };
    wrong("", CertificateError::Encoding);
    wrong("not base64!", CertificateError::Encoding);
    wrong(
        include_str!("../../../tests/saml/keys/idp.key"),
        CertificateError::Encoding,
    );
    wrong(&format!("{IDP}{IDP}"), CertificateError::Encoding);
    wrong("AAAA", CertificateError::Malformed);
    wrong(
        include_str!("../../../tests/saml/keys/weak.crt"),
        CertificateError::Key,
    );
    wrong(
        include_str!("../../../tests/saml/keys/ec.crt"),
        CertificateError::Key,
    );
    let error = with(&["AAAA"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "certificate 1 of the identity provider is not an X.509 certificate"
    );
    assert_eq!(with(&[]), Err(SettingsError::NoCertificate));
    assert_eq!(with(&[IDP; 17]), Err(SettingsError::TooManyCertificates));
    assert_eq!(with(&[IDP; 16]), Ok(()));
}

#[test]
fn empty_names_are_rejected() {
    let refused = |settings| ServiceProvider::new(settings).map(drop).unwrap_err();
    assert_eq!(
        refused(Settings {
            idp_entity_id: String::new(),
            ..settings()
        }),
        SettingsError::EntityId
    );
    assert_eq!(
        refused(Settings {
            groups_attribute: String::new(),
            ..settings()
        }),
        SettingsError::NoName
    );
    assert_eq!(
        refused(Settings {
            email_attribute: Some(String::new()),
            ..settings()
        }),
        SettingsError::NoName
    );
    assert_eq!(
        refused(Settings {
            attributes: vec![String::new()],
            ..settings()
        }),
        SettingsError::NoName
    );
}

#[test]
fn decryption_key_is_not_printed() {
    let (key, certificate) = (
        include_str!("../../../tests/saml/keys/sp.key"),
        include_str!("../../../tests/saml/keys/sp.crt"),
    );
    let good = DecryptionKey::new(&Secret::new(key), certificate).unwrap();
    assert_eq!(format!("{good:?}"), "DecryptionKey(…)");
    assert!(DecryptionKey::new(&Secret::new(certificate), certificate).is_err());
    assert!(DecryptionKey::new(&Secret::new(key), key).is_err());
}

#[test]
fn decryption_key_must_match_its_certificate() {
    let certificate = include_str!("../../../tests/saml/keys/sp.crt");
    let other = Secret::new(include_str!("../../../tests/saml/keys/idp.key"));
    assert_eq!(
        DecryptionKey::new(&other, certificate).map(drop),
        Err(DecryptionKeyError::Pair)
    );
    assert_eq!(DecryptionKey::new(&other, IDP).map(drop), Ok(()));
}
