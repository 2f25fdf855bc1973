use std::borrow::Cow;

/// Returns `true` if a request header is reserved for us: identity and forwarding headers that
/// origins trust, the id in the audit log, and headers that make some origins take another path
/// than the one that was evaluated.
///
/// Servers with CGI variables map every character that is not a letter or digit to `_`, so all of
/// these count as `-`.
pub fn is_reserved(name: &str) -> bool {
    let bytes = name.as_bytes();
    match bytes.first() {
        Some(b'c' | b'C') => {
            // A client that could set these would choose its own identity at the origin.
            starts_like(bytes, b"cf-access-")
                || starts_like(bytes, b"cf-connecting-ip")
                || is_like(bytes, b"cf-ray")
                || is_like(bytes, b"client-ip")
        }
        Some(b'x' | b'X') => {
            starts_like(bytes, b"x-forwarded-")
                || [
                    // Client addresses, and headers with which some frameworks replace the path or
                    // the host.
                    "x-real-ip",
                    "x-original-url",
                    "x-rewrite-url",
                    "x-original-uri",
                    "x-original-host",
                    "x-client-ip",
                    "x-cluster-client-ip",
                    "x-azure-clientip",
                    "x-script-name",
                    "x-path-info",
                    "x-traversal-path",
                    "x-request-uri",
                    "x-original-path",
                    "x-override-url",
                    "x-http-path-override",
                    "x-envoy-original-path",
                    "x-host",
                    "x-http-host-override",
                    "x-accel-mapping",
                    "x-sendfile-type",
                ]
                .iter()
                .any(|ours| is_like(bytes, ours.as_bytes()))
        }
        Some(b't' | b'T') => is_like(bytes, b"true-client-ip"),
        Some(b'f' | b'F') => is_like(bytes, b"forwarded") || is_like(bytes, b"fastly-client-ip"),
        // Gunicorn and other WSGI servers take these in place of the path, as names of CGI's
        // variables (RFC 3875 4.1).
        Some(b's' | b'S') => is_like(bytes, b"script-name"),
        Some(b'p' | b'P') => is_like(bytes, b"path-info") || is_like(bytes, b"path-translated"),
        Some(b'r' | b'R') => is_like(bytes, b"request-uri"),
        _ => false,
    }
}

/// Returns `true` for a header that overrides the method.
pub fn is_method_override(name: &str) -> bool {
    METHOD_OVERRIDES
        .iter()
        .any(|ours| is_like(name.as_bytes(), ours))
}

/// The names of headers and parameters that override the method, with `-` for each character that
/// is not a letter or digit.
const METHOD_OVERRIDES: [&[u8]; 12] = [
    b"x-http-method-override",
    b"x-http-method",
    b"x-method-override",
    b"x-method",
    b"x-http-verb-override",
    b"x-http-verb",
    b"x-verb-override",
    b"x-original-method",
    b"x-rewrite-method",
    b"http-method-override",
    b"method-override",
    b"-method",
];

/// Returns `true` if a query has a parameter that asks an origin to take the request for one with
/// another method.
pub(super) fn overrides_method(query: &str) -> bool {
    // Some origins separate parameters with `;`.
    let parameters = query
        .split([';'])
        .flat_map(|part| url::form_urlencoded::parse(part.as_bytes()));
    parameters.into_iter().any(|(name, _)| {
        let name = with_code_units(&name);
        // PHP ends a name at a NUL, other origins drop it, and no form sends one.
        name.contains('\0') || is_method_parameter(&name)
    })
}

fn is_method_parameter(name: &str) -> bool {
    // PHP drops leading blanks. It reads `_method[x]` as `_method`, and qs and Rack read
    // `[_method]` so.
    let name = name.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '[' | ']'));
    let name = name.split(['[', ']']).next().unwrap_or_default().trim_end();
    is_method_override(name) || is_like(name.as_bytes(), b"-httpmethod")
}

/// Decodes `%u005F`, as ASP.NET does. The URL standard knows no such escape.
fn with_code_units(name: &str) -> Cow<'_, str> {
    if !name.contains("%u") && !name.contains("%U") {
        return Cow::Borrowed(name);
    }
    let mut decoded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let digits = after
            .strip_prefix(['u', 'U'])
            .and_then(|after| after.split_at_checked(4));
        let unit = digits.and_then(|(digits, after)| {
            Some((
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?,
                after,
            ))
        });
        rest = match unit {
            Some((unit, after)) => {
                decoded.push(unit);
                after
            }
            None => {
                decoded.push('%');
                after
            }
        };
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// Returns `true` if some origins read a header's name as `ours`.
pub(super) fn is_spelt(name: &str, ours: &str) -> bool {
    name.len() == ours.len()
        && name
            .bytes()
            .zip(ours.bytes())
            .all(|(n, o)| folded(n) == folded(o))
}

const fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

fn is_like(name: &[u8], ours: &[u8]) -> bool {
    name.len() == ours.len() && starts_like(name, ours)
}

fn starts_like(name: &[u8], ours: &[u8]) -> bool {
    name.len() >= ours.len() && name.iter().zip(ours).all(|(n, o)| folded(*n) == *o)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p20_method_parameters_are_found_in_every_spelling() {
        for query in [
            "_method=DELETE",
            "a=b&_method=DELETE",
            "a=b;_method=DELETE",
            "_METHOD=PUT",
            "%5Fmethod=PUT",
            "_metho%64=PUT",
            ".method=PUT",
            "+_method=PUT",
            "_method[]=PUT",
            "_method%00x=PUT",
            "%20_method%00=PUT",
            "X-HTTP-Verb=PUT",
            "method-override=PUT",
            "_method",
            "X-HTTP-Method-Override=PUT",
            "x_http_method=PUT",
            "$httpMethod=PUT",
            "%24httpMethod=PUT",
            "_method%00x=DELETE",
            "_method%00=DELETE",
            "_me%00thod=DELETE",
            "%00_method=DELETE",
            "[_method]=DELETE",
            "+[_method]=DELETE",
            "_method]=DELETE",
            "_method[=DELETE",
            "_method+[a]=DELETE",
            "%u005fmethod=DELETE",
            "X-HTTP-Method-Overrid%u0065=PUT",
            "X-HTTP-Method-Override%u0000y=PUT",
        ] {
            assert!(overrides_method(query), "{query}");
        }
        for query in [
            "",
            "method=DELETE",
            "a=_method",
            "payment_method=card",
            "_methods=1",
            "a_method=1",
            "order[_method]=card",
            "%u00e9=1",
        ] {
            assert!(!overrides_method(query), "{query}");
        }
    }

    #[test]
    fn h01_h06_h07_h08_h12_every_spelling() {
        for name in [
            "cf-access-jwt-assertion",
            "Cf-Access-Jwt-Assertion",
            "CF_ACCESS_JWT_ASSERTION",
            "cf_access-jwt.assertion",
            "cf-access-authenticated-user-email",
            "cf-access-client-secret",
            "cf-access-token",
            "cf-access-anything",
            "Cf-Connecting-Ip",
            "CF_Connecting_IPv6",
            "x-forwarded-for",
            "X_Forwarded_User",
            "x-forwarded-uri",
            "X-Forwarded-Prefix",
            "x.forwarded.proto",
            "X-Real-IP",
            "x_real_ip",
            "True-Client-IP",
            "Forwarded",
            "X-Original-URL",
            "x_rewrite_url",
            "cf+access-authenticated-user-email",
            "cf~access~jwt-assertion",
            "x!forwarded#for",
            "cf-ray",
            "CF_RAY",
            "Cf.Ray",
            "SCRIPT_NAME",
            "script-name",
            "Path_Info",
            "PATH_TRANSLATED",
            "Request-Uri",
            "X-Script-Name",
            "x_script_name",
            "X-Traversal-Path",
            "X-Override-Url",
            "X-HTTP-Host-Override",
            "Client_IP",
            "Fastly-Client-IP",
            "X-Accel-Mapping",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in [
            "",
            "c",
            "cf-access",
            "cf-rays",
            "x-forwarded",
            "x-request-id",
            "x-real-ip-2",
            "forwarded-by",
            "user-agent",
            "xforwarded-for",
            "cookie",
        ] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
