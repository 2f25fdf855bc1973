mod attributes;
mod corpus;
mod errors;
mod foreign;
mod identity;
mod input;
mod request;
mod settings;

use super::testing::{EXPECTED, SIGNERS, Sign, field, response, swap};
use super::{AssertionUse, SamlError, SamlIdentity, ServiceProvider, Settings};
use crate::model::Groups;

const GROUPS: &str = r#"<saml2:Attribute Name="groups"><saml2:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">Everyone</saml2:AttributeValue><saml2:AttributeValue>R&amp;D &lt;x&gt;</saml2:AttributeValue><saml2:AttributeValue>Vertrieb, Köln</saml2:AttributeValue></saml2:Attribute>"#;
const START: &str = "<saml2:AttributeStatement>";

fn read(settings: Settings, message: &str) -> Result<SamlIdentity, SamlError> {
    let signed = Sign::with(&SIGNERS.idp).sign(message, "assertion");
    ServiceProvider::new(settings)
        .unwrap()
        .verify(&field(&signed), &EXPECTED)?
        .identity(AssertionUse::First)
}

fn names(groups: Groups) -> Option<Vec<String>> {
    match groups {
        Groups::Known(groups) => Some(groups.into_iter().map(|group| group.name).collect()),
        Groups::Unknown => None,
    }
}

fn with(attribute: &str) -> String {
    swap(&response(), START, &format!("{START}{attribute}"))
}
