use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cookie::SealingKey;
use crate::model::{IdpId, UnixTime};

/// Permission to test an identity provider (`docs/wire.md` 2.8), for ten minutes and anyone with
/// the link. It opens no session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TrialLink {
    #[serde(rename = "i")]
    idp: IdpId,
    #[serde(rename = "t")]
    expires: UnixTime,
}

impl TrialLink {
    /// How long it is good.
    pub(crate) const LIFETIME: Duration = Duration::from_secs(600);

    /// `https://<team domain>/cdn-cgi/access/test-idp/<id>?link=…`
    #[cfg(any(test, feature = "standalone"))]
    pub(crate) fn url(
        key: &SealingKey,
        team_url: &str,
        idp: &IdpId,
        now: UnixTime,
    ) -> Result<String, crate::cookie::SealError> {
        let link = key.seal(
            PURPOSE,
            &Self {
                idp: idp.clone(),
                expires: now.after(Self::LIFETIME),
            },
        )?;
        Ok(format!(
            "{team_url}{}/test-idp/{}?link={link}",
            crate::route::Endpoint::PREFIX,
            idp.0
        ))
    }

    /// Whether a link's text gives leave to try that provider out, now.
    pub(crate) fn is_valid(key: &SealingKey, text: &str, idp: &IdpId, now: UnixTime) -> bool {
        // Whoever made it may have had another clock, but none can be good for longer.
        let good = |link: Self| {
            link.idp == *idp && now < link.expires && link.expires <= now.after(Self::LIFETIME * 2)
        };
        key.open(PURPOSE, text).is_ok_and(good)
    }
}

const PURPOSE: &str = "test-idp";

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    #[test]
    fn link_is_valid_for_one_provider_and_ten_minutes() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let (okta, other) = (IdpId("okta".into()), IdpId("other".into()));
        let url = TrialLink::url(&key, "https://access.example.com", &okta, NOW).unwrap();
        let link = url
            .strip_prefix("https://access.example.com/cdn-cgi/access/test-idp/okta?link=")
            .unwrap();
        let good = |text: &str, idp: &IdpId, now| TrialLink::is_valid(&key, text, idp, now);
        assert!(good(link, &okta, NOW) && good(link, &okta, UnixTime(NOW.0 + 599)));
        assert!(!good(link, &okta, UnixTime(NOW.0 + 600)), "too late");
        assert!(
            !good(link, &okta, UnixTime(NOW.0 - 601)),
            "good for longer than any"
        );
        assert!(!good(link, &other, NOW));
        assert!(!good("", &okta, NOW) && !good(&format!("{link}A"), &okta, NOW));
        assert!(
            !TrialLink::is_valid(&SealingKey::new(&[2; 32]).unwrap(), link, &okta, NOW),
            "another team's"
        );
        let state = key
            .seal(
                "state",
                &TrialLink {
                    idp: okta.clone(),
                    expires: NOW.after(TrialLink::LIFETIME),
                },
            )
            .unwrap();
        assert!(!good(&state, &okta, NOW), "sealed for something else");
    }
}
