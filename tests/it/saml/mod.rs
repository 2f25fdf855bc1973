//! Logins over SAML.

mod errors;
mod identity;
mod login;
mod simplesamlphp;
