//! The values of labels: closed lists.

/// Defines an enum of label values, each with a word and an index.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All values, in order.
            pub const ALL: [Self; [$(Self::$variant,)+].len()] = [$(Self::$variant,)+];

            /// Returns the label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

labels! {
    /// The decision about a request.
    Decision {
        /// Forwarded to the origin.
        Allow = "allow",
        /// Redirected to the login, or asked to log in.
        Login = "login",
        /// Denied.
        Deny = "deny",
        /// No decision was possible.
        Unavailable = "unavailable",
        /// Answered by one of our own endpoints.
        Endpoint = "endpoint",
    }
}

labels! {
    /// The outcome of a login.
    Login {
        /// A session was created.
        Success = "success",
        /// The provider or a policy denied it.
        Refused = "refused",
        /// The response did not match the request: state, nonce, code or token.
        Invalid = "invalid",
        /// The provider or the store did not respond.
        Unavailable = "unavailable",
    }
}

labels! {
    /// The outcome of a logout.
    Logout {
        /// All sessions in question have ended.
        Success = "success",
        /// The store did not respond.
        Unavailable = "unavailable",
        /// The request had more tokens than are verified.
        Invalid = "invalid",
    }
}

labels! {
    /// The outcome of a JWKS fetch.
    Fetch {
        /// The response contained keys.
        Success = "success",
        /// There was no response, or its status was not 200.
        Unreachable = "unreachable",
        /// The response contained no usable keys.
        Unusable = "unusable",
    }
}

labels! {
    /// The answer of an external evaluation about a user.
    Evaluation {
        /// The rule matches.
        Yes = "yes",
        /// The rule does not match.
        No = "no",
        /// There is no valid answer.
        Unknown = "unknown",
    }
}

labels! {
    /// The outcome of a configuration reload.
    Reload {
        /// The new configuration is in use.
        Applied = "applied",
        /// The previous configuration stays in use.
        Rejected = "rejected",
        /// The configuration has not changed.
        Unchanged = "unchanged",
    }
}

labels! {
    /// The kind of an origin's failure.
    UpstreamError {
        /// There is no connection.
        Connect = "connect",
        /// TLS failed, or the certificate is for another name.
        Tls = "tls",
        /// A time limit was exceeded.
        Timeout = "timeout",
        /// The connection was closed during the exchange.
        Closed = "closed",
        /// The response violates HTTP.
        Protocol = "protocol",
        /// No origin of the application is healthy.
        NoPeer = "no_peer",
        /// The process has no file descriptors left.
        NoDescriptor = "no_descriptor",
        /// Any other failure.
        Other = "other",
    }
}
