use url::Url;

use super::Email;

/// The contact for users who need help: a text, a link, or both. Pages show it wherever a user is
/// refused or something fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    text: Option<Box<str>>,
    url: Option<Url>,
}

impl Support {
    /// Returns it, if there is anything to show.
    pub fn new(text: Option<String>, url: Option<Url>) -> Option<Self> {
        (text.is_some() || url.is_some()).then(|| Self {
            text: text.map(Into::into),
            url,
        })
    }

    /// Reads the address of a page (`https:`) or of a mailbox (`mailto:`, RFC 6068, one address).
    ///
    /// # Errors
    /// A sentence about anything else: pages must not lead to other schemes, and not over plain
    /// HTTP.
    pub fn parse_url(text: &str) -> Result<Url, String> {
        let url = Url::parse(text)
            .ok()
            .filter(|_| text.bytes().all(|b| b.is_ascii_graphic()));
        let good = url.filter(|url| match url.scheme() {
            "https" => url.has_host() && url.username().is_empty() && url.password().is_none(),
            "mailto" => Email::parse(url.path()).is_ok(),
            _ => false,
        });
        good.ok_or_else(|| {
            format!("`{text}` is not an address like `https://help.example.com` or `mailto:help@example.com`")
        })
    }

    /// The text, or the question before the link.
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or("Need help?")
    }

    /// The address and the words of the link.
    pub fn link(&self) -> Option<(&str, &str)> {
        let url = self.url.as_ref()?;
        let label = match url.scheme() {
            "mailto" => url.path(),
            _ => url[url::Position::BeforeHost..url::Position::AfterPath].trim_end_matches('/'),
        };
        Some((url.as_str(), label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn support_url_is_https_or_mailto() {
        for (good, label) in [
            ("https://help.example.com", "help.example.com"),
            (
                "https://example.com:8443/it/help/?q=access#form",
                "example.com:8443/it/help",
            ),
            ("mailto:help@example.com", "help@example.com"),
            ("mailto:help@example.com?subject=Access", "help@example.com"),
        ] {
            let url = Support::parse_url(good).unwrap();
            let support = Support::new(None, Some(url)).unwrap();
            assert_eq!(
                (support.text(), support.link().unwrap().1),
                ("Need help?", label),
                "{good}"
            );
        }
        for bad in [
            "",
            "help.example.com",
            "http://help.example.com",
            "javascript:alert(1)",
            "data:text/html,x",
            "https://",
            "https://user:word@help.example.com",
            "mailto:",
            "mailto:help",
            "mailto:a@example.com,b@example.com",
            "tel:+123",
            "java\tscript:alert(1)",
            "https://help.example.com/ü",
        ] {
            assert!(Support::parse_url(bad).is_err(), "{bad}");
        }
    }
}
