mod corpus;
mod foreign;
mod gate;
mod identity;
mod request;
mod settings;
