//! What the team domain and the application hosts answer under `/cdn-cgi/access/`, and in place of an application.

pub(crate) mod pages;
