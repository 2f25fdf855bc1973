mod corpus;
mod foreign;
mod identity;
mod input;
mod request;
mod settings;
