//! One table from everything that can go wrong to what a caller is told: a canonical code, `google.rpc.ErrorInfo` with
//! a reason, `RetryInfo` where repeating the call is safe, `BadRequest` where the request itself is wrong.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::cluster::DrainError;
use crate::domain::order::Failure;
use crate::domain::{CommandError, Gun, PileCode, Serial, WallMs};
use crate::groups::GroupError;
use crate::store::QueryError;
use crate::store::StoreError;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    Arguments(Violations),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("order {serial} of pile {pile} is unknown here")]
    OrderUnknown { pile: PileCode, serial: Serial },
    /// A start that had been answered before, with no.
    #[error("the start did not come about: {}", failure_name(.failure))]
    StartFailed {
        failure: Failure,
        /// The frame that brought the order's record, if it has one.
        record: Option<u8>,
    },
    /// The same of one of the guns of a vehicle.
    #[error("gun {gun}: {error}")]
    OfGun { gun: Gun, serial: Serial, error: Box<ApiError> },
    #[error(transparent)]
    Drain(#[from] DrainError),
    #[error(transparent)]
    Group(GroupError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something of ours answered what it cannot answer.
    #[error("internal error: {0}")]
    Defect(&'static str),
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::BadPageToken => {
                Self::Arguments(Violations::one("page_token", "is not from a page of this list with these filters"))
            }
            QueryError::Store(error) => Self::Store(error),
        }
    }
}

impl From<GroupError> for ApiError {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Store(error) => Self::Store(error),
            GroupError::Unknown(_)
            | GroupError::Full { .. }
            | GroupError::CursorUnknown { .. }
            | GroupError::CursorNotYours { .. } => Self::Group(error),
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let line = error.line();
        if line.code == Code::Internal {
            // Logged here because no caller can do anything about it.
            tracing::error!(%error, "a call failed through our own fault");
        }
        line.status(error.to_string())
    }
}

/// The fields of a request that are wrong, all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<(String, String)>);

impl Violations {
    pub fn one(field: &str, reason: &str) -> Self {
        let mut violations = Self::default();
        violations.add(field, reason);
        violations
    }

    pub fn add(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push((field.into(), reason.into()));
    }

    /// Those of a part of the request, by its name.
    pub fn add_all(&mut self, part: &str, violations: Self) {
        self.0.extend(violations.0.into_iter().map(|(field, reason)| (format!("{part}.{field}"), reason)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(field, _)| field.as_str())
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (field, reason)) in self.0.iter().enumerate() {
            write!(f, "{}{field}: {reason}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// One line of the table.
struct Line {
    code: Code,
    reason: &'static str,
    metadata: Vec<(&'static str, String)>,
    /// Set where nothing was done: repeating the call is safe after this long.
    retry: Option<Duration>,
    violations: Option<Violations>,
}

impl Line {
    fn new(code: Code, reason: &'static str) -> Self {
        Self { code, reason, metadata: vec![], retry: None, violations: None }
    }

    fn with(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }

    fn violations(mut self, violations: Violations) -> Self {
        self.violations = Some(violations);
        self
    }

    fn status(self, message: String) -> Status {
        let metadata: HashMap<_, _> = self.metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, metadata);
        if let Some(after) = self.retry {
            details.set_retry_info(Some(after));
        }
        for (field, reason) in self.violations.into_iter().flat_map(|v| v.0) {
            details.add_bad_request_violation(field, reason);
        }
        Status::with_error_details(self.code, message, details)
    }
}

impl ApiError {
    fn line(&self) -> Line {
        match self {
            Self::Arguments(violations) => {
                Line::new(Code::InvalidArgument, "INVALID_ARGUMENT").violations(violations.clone())
            }
            Self::Command(error) => command_line(error),
            Self::OrderUnknown { pile, serial } => {
                Line::new(Code::NotFound, "ORDER_UNKNOWN").with("pile", pile).with("serial", serial)
            }
            Self::StartFailed { failure, record } => start_line(failure, *record),
            Self::OfGun { gun, serial, error } => error.line().with("gun", gun).with("serial", serial),
            Self::Drain(DrainError::Unknown(node)) => Line::new(Code::NotFound, "NODE_UNKNOWN").with("node", node),
            // Told twice to end is as good as once.
            Self::Drain(DrainError::Unreachable { node, .. }) => {
                Line::new(Code::Unavailable, "NODE_UNREACHABLE").with("node", node).retry(SOON)
            }
            Self::Group(error) => group_line(error),
            Self::Store(StoreError::Unavailable(_)) => Line::new(Code::Unavailable, "STORE_UNAVAILABLE").retry(SOON),
            Self::Store(StoreError::Conflict { .. }) => Line::new(Code::Aborted, "STORE_CONFLICT").retry(SOON),
            // Only a claim is contested or superseded.
            Self::Store(StoreError::Contested { .. } | StoreError::Superseded { .. } | StoreError::Invalid(_))
            | Self::Defect(_) => Line::new(Code::Internal, "INTERNAL"),
        }
    }
}

fn group_line(error: &GroupError) -> Line {
    match error {
        GroupError::Unknown(group) => Line::new(Code::NotFound, "GROUP_UNKNOWN").with("group", group),
        GroupError::Full { group, consumers } => {
            Line::new(Code::ResourceExhausted, "GROUP_FULL").with("group", group).with("consumers", consumers)
        }
        GroupError::CursorUnknown { group } => Line::new(Code::InvalidArgument, "CURSOR_UNKNOWN")
            .with("group", group)
            .violations(Violations::one("cursor", "is not of an event that this group was delivered")),
        GroupError::CursorNotYours { group, partition } => {
            Line::new(Code::FailedPrecondition, "CURSOR_NOT_YOURS").with("group", group).with("partition", partition)
        }
        // As the store's own errors are.
        GroupError::Store(error) => ApiError::Store(error.clone()).line(),
    }
}

/// Only what a pile said is PILE_REJECTED: a start that no pile refused has a reason of its own.
fn start_line(failure: &Failure, record: Option<u8>) -> Line {
    let rejected = |frame: Option<u8>, code, name| {
        let line = Line::new(Code::FailedPrecondition, "PILE_REJECTED").with("code", code).with("name", name);
        match frame {
            Some(frame) => line.with("frame", format!("{frame:#04x}")),
            None => line,
        }
    };
    match failure {
        Failure::Rejected { code, name } => rejected(Some(0x33), code, name),
        Failure::FailedOnPile { code, name } => rejected(record, code, name),
        Failure::NotPluggedIn => Line::new(Code::FailedPrecondition, "NOT_PLUGGED_IN"),
        Failure::NoStart => Line::new(Code::FailedPrecondition, "START_TIMEOUT"),
        // No RetryInfo: the same request_id would get the same answer for ever.
        Failure::NotSent => Line::new(Code::FailedPrecondition, "START_NOT_SENT"),
    }
}

fn command_line(error: &CommandError) -> Line {
    match error {
        CommandError::PileUnknown => Line::new(Code::NotFound, "PILE_UNKNOWN"),
        CommandError::PileOffline { last_seen } => {
            let line = Line::new(Code::Unavailable, "PILE_OFFLINE").retry(HEARTBEAT);
            match last_seen {
                Some(at) => line.with("last_seen", rfc3339(*at)),
                None => line,
            }
        }
        CommandError::PileBusy { why, retry_after } => {
            Line::new(Code::ResourceExhausted, "PILE_BUSY").with("why", why).retry(retry_after.unwrap_or(SOON))
        }
        CommandError::PileRejected { frame, code, name } => Line::new(Code::FailedPrecondition, "PILE_REJECTED")
            .with("frame", format!("{frame:#04x}"))
            .with("code", code)
            .with("name", name),
        CommandError::GunBusy { gun, serial } => {
            Line::new(Code::FailedPrecondition, "GUN_BUSY").with("gun", gun).with("serial", serial)
        }
        CommandError::GunUnknown { gun, guns } => {
            Line::new(Code::NotFound, "GUN_UNKNOWN").with("gun", gun).with("guns", guns)
        }
        CommandError::OrderNotActive { serial, state } => {
            Line::new(Code::FailedPrecondition, "ORDER_NOT_ACTIVE").with("serial", serial).with("state", state)
        }
        // Whoever asks on behalf of a caller looks in the store then.
        CommandError::OrderNotHeld { serial } => {
            Line::new(Code::FailedPrecondition, "ORDER_NOT_ACTIVE").with("serial", serial).with("state", "not open")
        }
        CommandError::OrderActive { serial, state } => {
            Line::new(Code::FailedPrecondition, "ORDER_ACTIVE").with("serial", serial).with("state", state)
        }
        CommandError::OutcomeUnknown { serial } => {
            let line = Line::new(Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
            match serial {
                Some(serial) => line.with("serial", serial),
                None => line,
            }
        }
        // Before the deadline, and still nobody knows: the call must not be repeated by a mesh.
        CommandError::NodeLost { serial } => {
            let line = Line::new(Code::Aborted, "OUTCOME_UNKNOWN");
            match serial {
                Some(serial) => line.with("serial", serial),
                None => line,
            }
        }
        CommandError::Unsupported { what } => Line::new(Code::Unimplemented, "UNSUPPORTED").with("what", what),
        CommandError::TariffNotCurrent { expected, current } => {
            Line::new(Code::FailedPrecondition, "TARIFF_NOT_CURRENT")
                .with("expected", format!("{expected:016x}"))
                .with("current", format!("{current:016x}"))
        }
        CommandError::UnsupportedByPile { what, version } => {
            Line::new(Code::Unimplemented, "UNSUPPORTED_BY_PILE").with("what", what).with("version", version)
        }
        CommandError::DeadlinePassed => Line::new(Code::DeadlineExceeded, "DEADLINE_PASSED").retry(SOON),
        // Meshes repeat UNAVAILABLE by themselves, so never after a write.
        CommandError::SessionLost { written: false } => {
            Line::new(Code::Unavailable, "SESSION_LOST").with("written", false).retry(SOON)
        }
        CommandError::SessionLost { written: true } => Line::new(Code::Aborted, "SESSION_LOST").with("written", true),
        CommandError::StoreUnavailable { .. } => Line::new(Code::Unavailable, "STORE_UNAVAILABLE").retry(SOON),
        CommandError::RequestReused { id } => Line::new(Code::InvalidArgument, "REQUEST_REUSED")
            .with("request_id", id)
            .violations(Violations::one("request_id", "was used before with other arguments")),
        CommandError::SerialTaken { serial } => Line::new(Code::AlreadyExists, "SERIAL_TAKEN").with("serial", serial),
    }
}

fn failure_name(failure: &Failure) -> &str {
    match failure {
        Failure::Rejected { name, .. } | Failure::FailedOnPile { name, .. } => name,
        Failure::NotPluggedIn => "nobody plugged in within 60 s",
        Failure::NoStart => "no answer and no charging within 90 s, or stopped before either came",
        Failure::NotSent => "nothing was written to the pile; use a new request_id",
    }
}

fn rfc3339(at: WallMs) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// `google.rpc.ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "pileway";
/// A moment: time for a queue to drain or a pile to come back.
const SOON: Duration = Duration::from_secs(1);
/// An absent pile tries again at about this interval.
const HEARTBEAT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RequestId;

    /// code, reason, may be repeated, metadata
    fn check(error: impl Into<ApiError>, code: Code, reason: &str, retry: bool, metadata: &[(&str, &str)]) {
        let status = Status::from(error.into());
        let info = status.get_details_error_info().expect("every error has ErrorInfo");
        assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{status:?}");
        assert_eq!(info.domain, "pileway");
        assert_eq!(status.get_details_retry_info().is_some(), retry, "{reason}: retry");
        let expected: HashMap<_, _> = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(info.metadata, expected, "{reason}: metadata");
        assert!(!status.message().is_empty(), "{reason}: message");
    }

    #[test]
    fn every_command_error_has_its_line() {
        use CommandError as E;
        let gun = Gun::new(2).expect("gun");
        let serial = Serial::from_bytes([0x11; 16]);
        let s = "11111111111111111111111111111111";
        let last_seen = Some(WallMs(1_737_549_716_937));
        check(E::PileUnknown, Code::NotFound, "PILE_UNKNOWN", false, &[]);
        check(E::PileOffline { last_seen: None }, Code::Unavailable, "PILE_OFFLINE", true, &[]);
        let seen = [("last_seen", "2025-01-22T12:41:56.937Z")];
        check(E::PileOffline { last_seen }, Code::Unavailable, "PILE_OFFLINE", true, &seen);
        let busy = E::PileBusy { why: "mailbox full".into(), retry_after: None };
        check(busy, Code::ResourceExhausted, "PILE_BUSY", true, &[("why", "mailbox full")]);
        let no = E::PileRejected { frame: 0x33, code: 2, name: "gun already charging".into() };
        let meta = [("frame", "0x33"), ("code", "2"), ("name", "gun already charging")];
        check(no, Code::FailedPrecondition, "PILE_REJECTED", false, &meta);
        let meta = [("gun", "2"), ("serial", s)];
        check(E::GunBusy { gun, serial }, Code::FailedPrecondition, "GUN_BUSY", false, &meta);
        let meta = [("gun", "2"), ("guns", "1")];
        check(E::GunUnknown { gun, guns: 1 }, Code::NotFound, "GUN_UNKNOWN", false, &meta);
        let meta = [("serial", s), ("state", "settled")];
        let error = E::OrderNotActive { serial, state: "settled".into() };
        check(error, Code::FailedPrecondition, "ORDER_NOT_ACTIVE", false, &meta);
        let meta = [("serial", s), ("state", "not open")];
        check(E::OrderNotHeld { serial }, Code::FailedPrecondition, "ORDER_NOT_ACTIVE", false, &meta);
        let meta = [("serial", s), ("state", "charging")];
        let error = E::OrderActive { serial, state: "charging".into() };
        check(error, Code::FailedPrecondition, "ORDER_ACTIVE", false, &meta);
        let error = E::OutcomeUnknown { serial: Some(serial) };
        check(error, Code::DeadlineExceeded, "OUTCOME_UNKNOWN", false, &[("serial", s)]);
        check(E::OutcomeUnknown { serial: None }, Code::DeadlineExceeded, "OUTCOME_UNKNOWN", false, &[]);
        check(E::NodeLost { serial: Some(serial) }, Code::Aborted, "OUTCOME_UNKNOWN", false, &[("serial", s)]);
        let error = E::Unsupported { what: "levitate".into() };
        check(error, Code::Unimplemented, "UNSUPPORTED", false, &[("what", "levitate")]);
        let error = E::UnsupportedByPile { what: "power limit".into(), version: 16 };
        let meta = [("what", "power limit"), ("version", "16")];
        check(error, Code::Unimplemented, "UNSUPPORTED_BY_PILE", false, &meta);
        let error = E::TariffNotCurrent { expected: 1, current: 0xABC };
        let meta = [("expected", "0000000000000001"), ("current", "0000000000000abc")];
        check(error, Code::FailedPrecondition, "TARIFF_NOT_CURRENT", false, &meta);
        check(E::DeadlinePassed, Code::DeadlineExceeded, "DEADLINE_PASSED", true, &[]);
        check(E::SessionLost { written: false }, Code::Unavailable, "SESSION_LOST", true, &[("written", "false")]);
        check(E::SessionLost { written: true }, Code::Aborted, "SESSION_LOST", false, &[("written", "true")]);
        let error = E::StoreUnavailable { reason: "disk full".into() };
        check(error, Code::Unavailable, "STORE_UNAVAILABLE", true, &[]);
        let id = RequestId::from_bytes([0; 16]);
        let meta = [("request_id", "00000000-0000-0000-0000-000000000000")];
        check(E::RequestReused { id }, Code::InvalidArgument, "REQUEST_REUSED", false, &meta);
        check(E::SerialTaken { serial }, Code::AlreadyExists, "SERIAL_TAKEN", false, &[("serial", s)]);
    }

    #[test]
    fn every_other_error_has_its_line() {
        let unavailable = || StoreError::Unavailable("disk full".into());
        let unknown = || DrainError::Unknown("a".into());
        check(unknown(), Code::NotFound, "NODE_UNKNOWN", false, &[("node", "a")]);
        let away = DrainError::Unreachable { node: "a".into(), reason: "late".into() };
        check(away, Code::Unavailable, "NODE_UNREACHABLE", true, &[("node", "a")]);
        check(unavailable(), Code::Unavailable, "STORE_UNAVAILABLE", true, &[]);
        check(QueryError::Store(unavailable()), Code::Unavailable, "STORE_UNAVAILABLE", true, &[]);
        check(StoreError::Invalid("?".into()), Code::Internal, "INTERNAL", false, &[]);
        check(QueryError::BadPageToken, Code::InvalidArgument, "INVALID_ARGUMENT", false, &[]);
        let group = || "billing".to_owned();
        check(GroupError::Unknown(group()), Code::NotFound, "GROUP_UNKNOWN", false, &[("group", "billing")]);
        let full = GroupError::Full { group: group(), consumers: 1000 };
        let meta = [("group", "billing"), ("consumers", "1000")];
        check(full, Code::ResourceExhausted, "GROUP_FULL", false, &meta);
        let unknown = GroupError::CursorUnknown { group: group() };
        check(unknown, Code::InvalidArgument, "CURSOR_UNKNOWN", false, &[("group", "billing")]);
        let stale = GroupError::CursorNotYours { group: group(), partition: crate::store::Partition(7) };
        let meta = [("group", "billing"), ("partition", "7")];
        check(stale, Code::FailedPrecondition, "CURSOR_NOT_YOURS", false, &meta);
        check(GroupError::Store(unavailable()), Code::Unavailable, "STORE_UNAVAILABLE", true, &[]);
        let failed = |failure, record| ApiError::StartFailed { failure, record };
        let rejected = Failure::Rejected { code: 3, name: "equipment fault".into() };
        let meta = [("frame", "0x33"), ("code", "3"), ("name", "equipment fault")];
        check(failed(rejected, None), Code::FailedPrecondition, "PILE_REJECTED", false, &meta);
        let given_up = Failure::FailedOnPile { code: 0x4A, name: "no BHM".into() };
        let meta = [("frame", "0x3f"), ("code", "74"), ("name", "no BHM")];
        check(failed(given_up, Some(0x3F)), Code::FailedPrecondition, "PILE_REJECTED", false, &meta);
        // What no pile said is nobody's rejection, and repeating the call helps with none of it.
        let own = |failure, reason| check(failed(failure, None), Code::FailedPrecondition, reason, false, &[]);
        own(Failure::NotPluggedIn, "NOT_PLUGGED_IN");
        own(Failure::NoStart, "START_TIMEOUT");
        own(Failure::NotSent, "START_NOT_SENT");
        let (gun, serial) = (Gun::new(2).expect("gun"), Serial::from_bytes([0x11; 16]));
        let of_gun = ApiError::OfGun { gun, serial, error: Box::new(failed(Failure::NoStart, None)) };
        let meta = [("gun", "2"), ("serial", "11111111111111111111111111111111")];
        check(of_gun, Code::FailedPrecondition, "START_TIMEOUT", false, &meta);
    }

    #[test]
    fn bad_arguments_name_every_field() {
        let mut violations = Violations::one("pile", "must be 14 decimal digits");
        violations.add("gun", "guns are numbered from 1");
        let status = Status::from(ApiError::Arguments(violations));
        assert_eq!(status.message(), "pile: must be 14 decimal digits; gun: guns are numbered from 1");
        let named = status.get_details_bad_request().expect("BadRequest").field_violations;
        assert_eq!(named.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["pile", "gun"]);
    }
}
