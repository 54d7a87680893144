//! What every component's settings have in common. A leaf: anybody may use it.

/// A value that cannot be served with. `key` is relative to the component's section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = \"{value}\": {reason}")]
pub struct Problem {
    pub key: &'static str,
    pub value: String,
    pub reason: &'static str,
}

/// Durations as people write them: `10s`, `500ms`, `2m`. For `#[serde(with)]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:?}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
        parsed.ok_or_else(|| de::Error::custom("must be a duration like 10s, 500ms or 2m"))
    }
}
