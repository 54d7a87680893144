//! What every component's settings have in common. A leaf: anybody may use it.

/// A value that cannot be served with. `key` is relative to the component's section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = \"{value}\": {reason}")]
pub struct Problem {
    pub key: &'static str,
    pub value: String,
    pub reason: &'static str,
}

/// A password, or a text with one in it. Prints as `(secret)`.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text itself: for whoever needs it, never for a log or an error.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(secret)" })
    }
}

/// Durations as people write them: `10s`, `500ms`, `2m`, `14d`. For `#[serde(with)]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:?}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }

    /// The same on a command line.
    pub fn parse(text: &str) -> Result<Duration, &'static str> {
        // A day is 24 hours here: it says how long something is kept, not until what time of day.
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        let days = days.map(|days| Duration::from_secs(u64::from(days) * 24 * 3600));
        let parsed = || text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
        days.or_else(parsed).ok_or("must be a duration like 10s, 500ms, 2m or 14d")
    }
}
