//! What a client has already and what it can read: `If-None-Match`, `Accept`, `Accept-Encoding`.

use axum::http::{HeaderMap, HeaderValue, header};

/// Whether the client has this representation (RFC 9110 §13.1.2; the comparison is weak).
pub(super) fn matches_etag(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let ours = opaque(etag.as_bytes());
    items(headers, header::IF_NONE_MATCH).any(|item| item == b"*" || opaque(item) == ours)
}

fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

/// Whether the client asks for this media type by its name.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    items(headers, header::ACCEPT).any(|item| named(item, media_type))
}

/// Whether the client can read gzip.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    items(headers, header::ACCEPT_ENCODING).any(|item| named(item, "gzip"))
}

/// Whether an item of a list has this name and is not refused by a quality of zero.
fn named(item: &[u8], name: &str) -> bool {
    let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let is_named = parts.next().is_some_and(|first| first.eq_ignore_ascii_case(name.as_bytes()));
    is_named && !parts.any(is_zero)
}

fn is_zero(parameter: &[u8]) -> bool {
    let quality = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
    quality.is_some_and(|q| q.starts_with(b"0") && q.iter().all(|byte| matches!(byte, b'0' | b'.')))
}

fn items(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn an_etag_matches_weakly_and_in_lists() {
        let etag = HeaderValue::from_static("W/\"3.1042\"");
        for value in ["W/\"3.1042\"", "\"3.1042\"", "\"1.1\", W/\"3.1042\"", "*"] {
            assert!(matches_etag(&headers(header::IF_NONE_MATCH, value), &etag), "{value}");
        }
        for value in ["W/\"3.1041\"", "3.1042", "", "\"3.10422\""] {
            assert!(!matches_etag(&headers(header::IF_NONE_MATCH, value), &etag), "{value}");
        }
        assert!(!matches_etag(&HeaderMap::new(), &etag));
    }

    #[test]
    fn gzip_is_for_those_who_say_so() {
        for value in ["gzip", "br, gzip", "GZIP;q=0.5", "deflate, gzip;q=1.0, *;q=0.5"] {
            assert!(accepts_gzip(&headers(header::ACCEPT_ENCODING, value)), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip; q=0.000", "xgzip"] {
            assert!(!accepts_gzip(&headers(header::ACCEPT_ENCODING, value)), "{value}");
        }
    }
}
