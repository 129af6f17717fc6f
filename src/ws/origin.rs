//! Which pages may open a socket. Browsers send their page's origin and let it open sockets to anywhere, so the
//! server is the one who says no.

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};

/// The pages that may, beside those of the server's own address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Reads a list with spaces between, such as `https://seats.example.com https://example.com`; `*` is every page.
    #[must_use]
    pub fn new(list: &str) -> Self {
        Self(list.split_whitespace().map(str::to_ascii_lowercase).collect())
    }

    /// Whether the request comes from no browser, or from a page that may. `public_url` is where clients reach
    /// the server, e.g. `https://seats.example.com`.
    #[must_use]
    pub fn allow(&self, headers: &HeaderMap, public_url: &str) -> bool {
        let mut values = headers.get_all(ORIGIN).iter();
        let Some(value) = values.next() else { return true };
        let (Ok(origin), None) = (value.to_str(), values.next()) else { return false };
        let origin = origin.to_ascii_lowercase();
        origin == public_url.to_ascii_lowercase()
            || self.0.iter().any(|allowed| *allowed == origin || allowed == "*")
            || is_own(&origin, headers)
    }
}

/// Whether the page came from the host that the request is for.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let page = origin.parse::<Uri>().ok();
    let authority = page.as_ref().and_then(Uri::authority);
    host.zip(authority).is_some_and(|(host, page)| host.eq_ignore_ascii_case(page.as_str()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allows(list: &str, origins: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("10.0.0.7:8080"));
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        Origins::new(list).allow(&headers, "https://seats.example.com")
    }

    #[test]
    fn only_pages_of_ours_and_of_the_list_may() {
        let shop = "https://shop.example.com http://localhost:3000";
        let rows: [(&str, &[&'static str], bool); 12] = [
            ("", &[], true),
            ("", &["https://seats.example.com"], true),
            ("", &["HTTPS://SEATS.example.com"], true),
            ("", &["http://10.0.0.7:8080"], true),
            ("", &["http://10.0.0.7"], false),
            ("", &["https://evil.example.com"], false),
            ("", &["null"], false),
            ("", &[""], false),
            (shop, &["https://shop.example.com"], true),
            (shop, &["https://shop.example.com.evil.com"], false),
            (shop, &["https://shop.example.com", "https://evil.example.com"], false),
            ("*", &["https://evil.example.com"], true),
        ];
        for (list, origins, allowed) in rows {
            assert_eq!(allows(list, origins), allowed, "{origins:?} with {list:?}");
        }
    }
}
