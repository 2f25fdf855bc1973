//! Routing of paths that origins read in more than one way.

use proptest::prelude::*;

use super::*;
use crate::model::{CleanPath, PathError};

const HOST: &str = "h.x";

fn router(domains: &[(&str, PathCase)]) -> Router {
    let parsed: Vec<_> = domains
        .iter()
        .map(|(domain, case)| (Domain::parse(domain).unwrap(), *case))
        .collect();
    Router::new(parsed.iter().map(|(domain, case)| (domain, *case)))
}

fn insensitive(domains: &[&str]) -> Router {
    router(
        &domains
            .iter()
            .map(|domain| (*domain, PathCase::Insensitive))
            .collect::<Vec<_>>(),
    )
}

fn route(router: &Router, path: &str) -> Result<Option<usize>, PathError> {
    router.route(HOST, &CleanPath::parse(path).unwrap())
}

#[test]
fn readings_that_lead_to_another_application_are_refused() {
    let router = insensitive(&["h.x", "h.x/admin"]);
    for path in [
        "/ADMIN",
        "/Admin/x",
        "/admin.",
        "/admin./x",
        "/admin%2e",
        "/admin%20",
        "/admin%20/x",
        "/%20admin",
        "/admin%20.%20",
        "/admin::$DATA",
        "/admin:x/y",
        "/admin%3a%3A$DATA",
        "/admin;jsessionid=1",
        "/admin%3Bx",
        "/admin;a=b/",
        "/%2Fadmin",
        "/%5Cadmin",
        "/admin%2F",
        "/admin%5Cx",
        "/admin%252Fx",
        "/admin%255cx",
        "/;/admin",
        "/;x/%20/admin",
        "/%20//admin",
        "/ADM%49N%2Fx;y",
        "/Admin.%20::$DATA;x%2Fy",
        "/admin%3Fx",
        "/admin%23",
        "/admin%253f",
        "/admin%ff",
        "/ad%ffmin",
        "/admin%E2%80%8C",
    ] {
        assert_eq!(route(&router, path), Err(PathError::Ambiguous), "{path}");
    }
    for (path, application) in [
        ("/admin", 1),
        ("/%61dmin/x", 1),
        ("/admin/A.;b:c//d%2Fe%5Cf%252Fg%20", 1),
        ("/administration", 0),
        ("/admin-x;y", 0),
        ("/admin.json", 0),
        ("/x/admin;y", 0),
        ("/x%2Fadmin", 0),
        ("/api/a%2Fb", 0),
        ("/bucket/a//b", 0),
        ("/300x200/https://img.test/a.png", 0),
        ("/users/CORP%5Cada", 0),
        ("/docs/caf%E9.html", 0),
        ("/job/x/feature%252Flogin", 0),
        ("/.../x", 0),
        ("/a:b;c.", 0),
    ] {
        assert_eq!(route(&router, path), Ok(Some(application)), "{path}");
    }
}

#[test]
fn all_readings_of_a_path_are_compared_with_a_star() {
    let router = insensitive(&["h.x", "h.x/files/*.pdf", "h.x/a*/b"]);
    for path in [
        "/files%2Fa;.pdf",
        "/files%2Fa.pdf",
        "/files/a;.pdf",
        "/files/a.pdf;x",
        "/files/a.PDF",
        "/files/a.pdf.",
        "/files/a.pdf%3Fx",
        "/files;a/x;.pdf",
        "/a1%2Fb",
        "/a1/b%20",
        "/a1/%2Fb",
        "/a//b%2F",
    ] {
        assert_eq!(route(&router, path), Err(PathError::Ambiguous), "{path}");
    }
    for (path, application) in [
        ("/files/a.pdf", 1),
        ("/files/a%2Fb.pdf", 1),
        ("/files/a;x/b.pdf", 1),
        ("/files/a.txt;x", 0),
        ("/files%2Fa.txt", 0),
        ("/a1/x;y/b", 2),
        ("/a1//c/b", 2),
    ] {
        assert_eq!(route(&router, path), Ok(Some(application)), "{path}");
    }
}

#[test]
fn merged_slashes_beside_a_star_lead_to_one_application() {
    let router = insensitive(&["h.x", "h.x/x*/b", "h.x/a/*/b", "h.x/c/"]);
    for (path, application) in [
        ("/x1//b", 1),
        ("/x//b", 1),
        ("/x1///b//c", 1),
        ("/x1/b//", 1),
        ("/x1/;v=1/b", 1),
        ("/x1/%20/b/d", 1),
        ("/x1/...//b", 1),
        ("/x1%2F/b", 1),
        ("/x1/%2F;v/b", 1),
        ("/x1/%ff/b", 1),
        ("/x1;v%2Fy/b", 1),
        ("/a//y/b", 2),
        ("/a/y//b", 2),
        ("/c//d", 3),
        ("/d//b", 0),
    ] {
        assert_eq!(route(&router, path), Ok(Some(application)), "{path}");
    }
    for path in [
        "/a//b",
        "/a/;/b",
        "/a/%20/b",
        "/x1/%2Fb",
        "/x1//b;y",
        "/x1//%2Fb",
        "/c;/%2F",
    ] {
        assert_eq!(route(&router, path), Err(PathError::Ambiguous), "{path}");
    }
}

#[test]
fn case_and_blanks_beyond_ascii_are_readings() {
    let router = insensitive(&["h.x", "h.x/admin", "h.x/kiosk", "h.x/%C3%A4"]);
    for path in [
        "/%C3%84",
        "/%EF%BD%81dmin",
        "/%EF%BC%A1DMIN",
        "/adm%C4%B1n",
        "/ADM%C4%B0N",
        "/%E2%84%AAiosk",
        "/kio%C5%BFk",
        "/admin%C2%A0",
        "/admin%E3%80%80.%20",
        "/%E2%80%89admin/x",
        "/%E3%80%80//admin",
        "/admin%EF%BC%8E",
        "/admin%EF%BC%8F",
        "/%E2%88%95admin",
        "/admin%E2%82%A9",
        "/admin%E2%80%A4",
        "/%EF%BC%BCadmin/x",
        "/admin%EF%BC%9Bx",
        "/admin%EF%BC%9A%EF%BC%9A$DATA",
        "/admin%EF%BC%9Fx",
        "/admin%EF%BC%83",
    ] {
        assert_eq!(route(&router, path), Err(PathError::Ambiguous), "{path}");
    }
    for (path, application) in [
        ("/%C3%A4/%C3%84", 3),
        ("/%C3%B6", 0),
        ("/admin/a%C2%A0", 1),
        ("/%EF%BD%81dministration", 0),
        ("/a%EF%BC%8Fb", 0),
    ] {
        assert_eq!(route(&router, path), Ok(Some(application)), "{path}");
    }
    let sensitive = super::tests::router(&[
        ("h.x", PathCase::Sensitive),
        ("h.x/admin", PathCase::Insensitive),
    ]);
    assert_eq!(route(&sensitive, "/%EF%BD%81dmin"), Ok(Some(0)));
}

#[test]
fn escaped_pattern_is_compared_by_octets() {
    let router = insensitive(&["h.x", "h.x/My%20Files", "h.x/%C3%A4", "h.x/@scope"]);
    for (path, expected) in [
        ("/My%20Files/x", Ok(Some(1))),
        ("/my%20files", Err(PathError::Ambiguous)),
        ("/My%2520Files", Err(PathError::Ambiguous)),
        ("/My%20Files%20", Err(PathError::Ambiguous)),
        ("/%c3%a4/x", Ok(Some(2))),
        ("/%c3%a4%ff", Err(PathError::Ambiguous)),
        ("/%C3%A4/@scope", Ok(Some(2))),
        ("/%C3%B6/@scope", Ok(Some(0))),
        ("/%C3/@scope", Err(PathError::Ambiguous)),
        ("/%25c3%25a4", Err(PathError::Ambiguous)),
        ("/@scope/x", Ok(Some(3))),
        ("/%40scope/x", Err(PathError::Ambiguous)),
        ("/%40other", Ok(Some(0))),
    ] {
        assert_eq!(route(&router, path), expected, "{path}");
    }
}

#[test]
fn paths_that_differ_in_case_reach_a_case_sensitive_origin() {
    let router = router(&[
        ("h.x", PathCase::Sensitive),
        ("h.x/admin", PathCase::Insensitive),
    ]);
    assert_eq!(route(&router, "/ADMIN"), Ok(Some(0)));
    assert_eq!(route(&router, "/ADMIN/a//b"), Ok(Some(0)));
    assert_eq!(route(&router, "/ADMIN.%20"), Ok(Some(0)));
    assert_eq!(route(&router, "/admin."), Err(PathError::Ambiguous));
    assert_eq!(route(&router, "/admin"), Ok(Some(1)));
    let both = [
        ("h.x/Wiki", PathCase::Sensitive),
        ("h.x/wiki", PathCase::Sensitive),
    ];
    assert_eq!(route(&super::tests::router(&both), "/Wiki/x"), Ok(Some(0)));
    assert_eq!(route(&super::tests::router(&both), "/wiki/x"), Ok(Some(1)));
}

#[test]
fn patterns_that_differ_only_in_case_are_refused() {
    let declared = |domains: &[(&str, PathCase)]| super::tests::router(domains);
    for domains in [
        ["h.x/Wiki", "h.x/wiki"],
        ["h.x/wiki", "h.x/Wiki"],
        ["h.x/Wiki", "*.x/wiki"],
        ["*.x/Wiki", "h*.x/wiki"],
    ] {
        let router = insensitive(&domains);
        for path in [
            "/Wiki",
            "/wiki",
            "/Wiki/secret",
            "/wiki/secret",
            "/Wiki/a;b//%2Fc",
            "/WIKI",
        ] {
            assert_eq!(
                route(&router, path),
                Err(PathError::Ambiguous),
                "{domains:?} {path}"
            );
        }
    }
    for (one, other, path) in [
        ("h.x/docs", "h.x/Docs/public", "/Docs/public/x"),
        ("h.x/Docs", "h.x/docs/public", "/docs/public"),
        ("h.x/docs", "h.x/Docs/*.pdf", "/Docs/a.pdf"),
        ("h.x/docs/*", "h.x/Docs/a*", "/Docs/abc"),
        ("h.x/%C3%A4", "h.x/%C3%84", "/%C3%84/x"),
        ("h.x/My%20Files", "h.x/my%20files", "/my%20files/x"),
        ("h.x/kiosk", "h.x/%E2%84%AAiosk", "/%E2%84%AAiosk"),
        ("h.x/wiki", "h.x/%EF%BD%97iki", "/%EF%BD%97iki"),
    ] {
        for domains in [[one, other, "h.x"], ["h.x", other, one]] {
            assert_eq!(
                route(&insensitive(&domains), path),
                Err(PathError::Ambiguous),
                "{domains:?} {path}"
            );
        }
    }
    let router = insensitive(&[
        "h.x",
        "h.x/docs",
        "h.x/Docs/public",
        "h.x/admin",
        "h.x/*.JPG",
        "g.x/Admin",
        "*.y/DOCS",
    ]);
    for (path, application) in [
        ("/docs/a", 1),
        ("/admin/a.jpg", 3),
        ("/admin/Public", 3),
        ("/Public", 0),
    ] {
        assert_eq!(route(&router, path), Ok(Some(application)), "{path}");
    }
    let one = declared(&[
        ("h.x/Wiki", PathCase::Sensitive),
        ("h.x/wiki", PathCase::Insensitive),
    ]);
    assert_eq!(route(&one, "/Wiki/x"), Ok(Some(0)));
    assert_eq!(route(&one, "/wiki/x"), Err(PathError::Ambiguous));
}

#[test]
fn host_with_one_application_accepts_every_path() {
    let router = insensitive(&["h.x", "*.x/admin"]);
    for path in ["/ADMIN", "/a//b;c%2Fd%252Fe%20.", "/%ff"] {
        assert_eq!(route(&router, path), Ok(Some(0)), "{path}");
    }
    assert_eq!(
        router.route("other.x", &CleanPath::parse("/ADMIN").unwrap()),
        Err(PathError::Ambiguous)
    );
}

/// One step of an origin that reads a path.
fn read(path: Vec<u8>, step: usize) -> Vec<u8> {
    let segments = |edit: &dyn Fn(&[u8]) -> Vec<u8>| {
        path.split(|byte| *byte == b'/')
            .map(edit)
            .collect::<Vec<_>>()
            .join(&b'/')
    };
    let until =
        |segment: &[u8], mark: u8| segment.split(|byte| *byte == mark).next().unwrap().to_vec();
    let trim = |segment: &[u8], blanks: &[u8]| {
        let end = segment
            .iter()
            .rposition(|byte| !blanks.contains(byte))
            .map_or(0, |at| at + 1);
        segment[..end].to_vec()
    };
    match step {
        0 | 1 => percent_encoding::percent_decode(&path).collect(),
        2 => path
            .iter()
            .map(|byte| if *byte == b'\\' { b'/' } else { *byte })
            .collect(),
        3 => {
            let mut merged = path;
            merged.dedup_by(|one, other| (*one, *other) == (b'/', b'/'));
            merged
        }
        4 => segments(&|segment| until(segment, b';')),
        5 => segments(&|segment| until(segment, b':')),
        6 => segments(&|segment| trim(segment, b". ")),
        7 => segments(&|segment| segment.trim_ascii().to_vec()),
        8 => path.to_ascii_lowercase(),
        9 => path
            .split(|byte| matches!(byte, b'?' | b'#'))
            .next()
            .unwrap()
            .to_vec(),
        10 => path
            .utf8_chunks()
            .flat_map(|chunk| chunk.valid().bytes())
            .collect(),
        // The last segment alone.
        11 => {
            let at = path.iter().rposition(|byte| *byte == b'/').unwrap();
            let (front, last) = path.split_at(at);
            [front, &until(last, b';')].concat()
        }
        // Best fit, Unicode blanks and Unicode case, of text alone.
        12..15 => match String::from_utf8(path) {
            Ok(text) if step == 12 => text.chars().map(best_fit).collect::<String>().into_bytes(),
            Ok(text) if step == 13 => text
                .split('/')
                .map(|segment| segment.trim_matches(char::is_whitespace))
                .collect::<Vec<_>>()
                .join("/")
                .into(),
            Ok(text) => text.to_lowercase().into_bytes(),
            Err(other) => other.into_bytes(),
        },
        _ => path,
    }
}

/// Full-width forms as Windows programs read them that do not use Unicode.
fn best_fit(character: char) -> char {
    let ascii = u32::from(character)
        .checked_sub(0xfee0)
        .filter(|code| (0x21..0x7f).contains(code));
    ascii.and_then(char::from_u32).unwrap_or(character)
}

/// The application to which an origin's reading belongs.
fn of_reading(domains: &[&str], path: &[u8]) -> Option<usize> {
    let covers = |domain: &&str| {
        let pattern = domain.trim_start_matches(HOST);
        let pattern = if pattern.is_empty() { "/" } else { pattern };
        let same = |one: u8, other: u8| one.eq_ignore_ascii_case(&other);
        readings::covers(pattern.as_bytes(), path, &readings::Alphabet::PLAIN, same)
    };
    let mut covering: Vec<_> = domains
        .iter()
        .enumerate()
        .filter(|(_, domain)| covers(domain))
        .collect();
    covering.sort_by_key(|(_, domain)| Domain::parse(domain).unwrap().specificity());
    covering.first().map(|(at, _)| *at)
}

const DOMAINS: [&str; 8] = [
    "h.x",
    "h.x/admin",
    "h.x/admin/open",
    "h.x/files/*.pdf",
    "h.x/a*/b",
    "h.x/pub*",
    "h.x/files/*/b/*",
    "h.x/x/",
];

const NAME: &str = "(admin|ADMIN|Adm%69n|%EF%BD%81dmin|%E2%84%AA|open|files|a1|x|b|b|pub|Pub|x\\.pdf|\\.pdf|%20|%FF|%C3%A4)?";
const DISGUISE: &str = "(;|;x|:s|::\\$DATA|%3b|%253B|%3A|\\.|%2e|%20|%2520|%FF|%3F|%23|\\.pdf|;\\.pdf|%C2%A0|%EF%BC%8E|%EF%BC%9B|%EF%BC%9Fx|%E3%80%80){0,2}";
const SLASH: &str = "(/|/|/|//|%2f|%5C|%252F|%255c|%EF%BC%8F)";

fn disguised() -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!(
        "/{NAME}{DISGUISE}({SLASH}{NAME}{DISGUISE}){{0,3}}"
    ))
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever an origin makes of a path that is forwarded: it belongs to the application that was
    /// asked.
    #[test]
    fn no_reading_of_a_routed_path_leads_elsewhere(
        raw in disguised(),
        origins in prop::collection::vec(prop::collection::vec(0..15_usize, 0..9), 1..12),
    ) {
        let router = insensitive(&DOMAINS);
        let Ok(path) = CleanPath::parse(&raw) else { return Ok(()) };
        let Ok(found) = router.route(HOST, &path) else { return Ok(()) };
        for steps in origins {
            let reading = steps.iter().fold(path.as_str().as_bytes().to_vec(), |path, step| read(path, *step));
            let text = String::from_utf8_lossy(&reading).into_owned();
            prop_assert!(!text.split('/').any(|segment| matches!(segment, "." | "..")), "{} reads {}", raw, text);
            prop_assert_eq!(of_reading(&DOMAINS, &reading), found, "{} reads {} by {:?}", raw, text, steps);
            prop_assert!(!text.to_ascii_lowercase().starts_with("/cdn-cgi/access"));
        }
    }

    /// A path that is plain is routed as its reading is.
    #[test]
    fn plain_path_is_routed(raw in "/(admin|open|files|a1|x|b|pub)(/(admin|open|x\\.pdf|b|x)){0,3}") {
        let path = CleanPath::parse(&raw).unwrap();
        let found = insensitive(&DOMAINS).route(HOST, &path);
        prop_assert_eq!(found, Ok(of_reading(&DOMAINS, raw.as_bytes())));
    }
}
