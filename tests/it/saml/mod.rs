//! Logins over SAML.

mod errors;
mod identity;
mod login;
mod responses;
mod simplesamlphp;
