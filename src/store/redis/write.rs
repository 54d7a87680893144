//! What changes something: the arguments of each script, and what its answer means.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::layout::{
    self, What, array, batch, bytes, conflicts, damaged, document, entries, index, key_of, log, number, numbers, own,
    present, row_tail, run, say, session, versioned,
};
use super::link::{Access, Link};
use super::read::pairs;
use super::script::{self, Invocation};
use crate::domain::{Epoch, Fence, PileCode};
use crate::store::{
    Append, Batch, BatchId, Claim, Claimed, Committed, Entry, Held, IndexName, Key, Kind, Lease, Offset, Partition,
    Precondition, Put, Renewed, Settled, Settlement, StoreError,
};

/// In order; the first with what was in the log before it.
pub(super) struct Appended {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) behind: Option<What>,
}

pub(super) async fn commit(
    link: &Link,
    partition: Partition,
    given: &Batch,
) -> Result<(Committed, Appended), StoreError> {
    let Batch { id, require, put, delete, append } = given;
    let base = link.keys.base(partition);
    let mut call = script::COMMIT.on(&base).key(log(&base)).arg(link.keys.channel()).number(partition);
    match id {
        Some(id) => call = call.key(batch(&base, *id)).arg(format!("{:016x}", id.n)).arg(fingerprint(given)),
        None => call = call.arg("").arg(""),
    }
    call.add_number(BatchId::KEPT_MS);
    call.add_number(require.len());
    for precondition in require {
        add_precondition(&mut call, &base, precondition);
    }
    call.add_number(put.len());
    for put in put {
        add_put(&mut call, &base, put);
    }
    call.add_number(delete.len());
    for key in delete {
        call.add_key(document(&base, key));
    }
    call.add_number(append.len());
    for Append { pile, payload } in append {
        call.add_arg(pile.to_string());
        call.add_arg(&**payload);
    }

    let mut answer = array(link.call(Access::Write, call).await?)?.into_iter();
    let mut next = || answer.next().ok_or_else(damaged);
    match &*bytes(next()?)? {
        b"conflict" => {
            let at = number(&bytes(next()?)?)? as usize;
            Err(conflict(require.get(at).ok_or_else(damaged)?, answer.next())?)
        }
        b"batch" => {
            let last = String::from_utf8_lossy(&bytes(next()?)?).into_owned();
            let last = u64::from_str_radix(&last, 16).map_err(|_| damaged())?;
            let id = id.ok_or_else(damaged)?;
            let why = format!("batch {} of session {}: the last one was {last}", id.n, id.session);
            Err(StoreError::Invalid(why))
        }
        b"again" => Ok((
            Committed { versions: numbers(&bytes(next()?)?)?, offsets: numbers(&bytes(next()?)?)? },
            Appended::nothing(),
        )),
        b"first" => {
            let committed = Committed { versions: numbers(&bytes(next()?)?)?, offsets: numbers(&bytes(next()?)?)? };
            let told = array(next()?)?.into_iter().zip(append);
            let appended = told.map(|(place, append)| entry(partition, append, place)).collect::<Result<_, _>>()?;
            Ok((committed, Appended::of(appended)))
        }
        _ => Err(damaged()),
    }
}

pub(super) async fn claim(link: &Link, partition: Partition, claim: Claim) -> Result<Claimed, StoreError> {
    let Claim { pile, session: claimer, now_ms, identity, held } = claim;
    let base = link.keys.base(partition);
    let mut call = script::CLAIM
        .on(&base)
        .key(own(&base, pile))
        .key(document(&base, &Key::of_pile(Kind::Pile, pile, vec![])))
        .key(index(&base, IndexName::OrderOpen))
        .number(pile)
        .arg(session(claimer))
        .number(now_ms)
        .arg(run(identity));
    call = match held {
        Held::Nothing => call.arg("nothing").arg("").arg("0"),
        Held::Fence { fence, anew } => {
            call.arg(if anew { "anew" } else { "fence" }).arg(session(fence.session)).number(fence.epoch.0)
        }
    };
    call = call
        .number(Claim::TAKEOVERS)
        .number(Claim::CONTEST_MS)
        .number(Claim::REMEMBERED)
        .number(Claimed::MAX_OPEN_ORDERS);

    let mut answer = array(link.call(Access::Write, call).await?)?.into_iter();
    let mut next = || answer.next().ok_or_else(damaged);
    match &*bytes(next()?)? {
        b"owner" => {
            let fence = Fence { session: claimer, epoch: Epoch(number(&bytes(next()?)?)?) };
            let (by, epoch) = (bytes(next()?)?, bytes(next()?)?);
            let previous = if by.is_empty() { None } else { Some(layout::fence(&by, &epoch)?) };
            let pile = present(next()?)?.map(|row| versioned(&row)).transpose()?;
            let order = |pair: Result<(Vec<u8>, Vec<u8>), _>| {
                pair.and_then(|(name, row)| Ok((key_of(&name)?, versioned(&row)?)))
            };
            let open_orders = pairs(array(next()?)?).map(order).collect::<Result<_, _>>()?;
            Ok(Claimed { fence, previous, pile, open_orders })
        }
        b"contested" => Err(StoreError::Contested { pile }),
        b"superseded" => Err(StoreError::Superseded { pile }),
        _ => Err(damaged()),
    }
}

pub(super) async fn release(
    link: &Link,
    partition: Partition,
    pile: PileCode,
    fence: Fence,
) -> Result<bool, StoreError> {
    let base = link.keys.base(partition);
    let call = script::RELEASE.on(&base).key(own(&base, pile)).number(pile);
    let call = call.arg(session(fence.session)).number(fence.epoch.0).number(Claim::REMEMBERED);
    Ok(link.call(Access::Write, call).await? == Value::Int(1))
}

pub(super) async fn settle(
    link: &Link,
    partition: Partition,
    settlement: &Settlement,
) -> Result<(Settled, Appended), StoreError> {
    let Settlement { record, digest, value: _, due: _, order, order_is, events, conflict: other, conflict_event } =
        settlement;
    let base = link.keys.base(partition);
    let mut call = script::SETTLE.on(&base).arg(link.keys.channel()).number(partition);
    add_put_with(&mut call, &base, &settlement.record_put(), Some(digest));
    call = call.arg(layout::hex(digest)).number(conflict_event.pile);
    add_precondition(&mut call, &base, order_is);
    add_put(&mut call, &base, order);
    call.add_number(events.len());
    for event in events {
        call.add_arg(&*event.payload);
    }
    add_put(&mut call, &base, other);
    call.add_arg(&*conflict_event.payload);
    let (from, to) = conflicts(record, other.key.kind);
    call = call.arg(from).arg(to).number(Settlement::MAX_CONFLICTS);

    let mut answer = array(link.call(Access::Write, call).await?)?.into_iter();
    let mut next = || answer.next().ok_or_else(damaged);
    match &*bytes(next()?)? {
        b"first" => {
            let entries = events.iter().map(|event| entry(partition, event, next()?)).collect::<Result<_, _>>()?;
            Ok((Settled::First, Appended::of(entries)))
        }
        b"again" => Ok((Settled::Again, Appended::nothing())),
        b"kept" => Ok((Settled::Conflict { first: false }, Appended::nothing())),
        b"differs" => {
            let told = entry(partition, conflict_event, next()?)?;
            Ok((Settled::Conflict { first: true }, Appended::of(vec![told])))
        }
        b"conflict" => Err(conflict(order_is, answer.next())?),
        _ => Err(damaged()),
    }
}

pub(super) async fn expire(link: &Link, partition: Partition, before: &str, limit: usize) -> Result<usize, StoreError> {
    let base = link.keys.base(partition);
    let call = script::EXPIRE.on(&base).key(index(&base, IndexName::Expiry)).arg(format!("({before}")).number(limit);
    Ok(number(&bytes(link.call(Access::Write, call).await?)?)? as usize)
}

pub(super) async fn trim(link: &Link, partition: Partition, before: Offset, limit: usize) -> Result<usize, StoreError> {
    let base = link.keys.base(partition);
    let call = script::TRIM.on(&base).key(log(&base)).number(before).number(limit);
    Ok(number(&bytes(link.call(Access::Write, call).await?)?)? as usize)
}

pub(super) async fn renew(link: &Link, lease: &Lease) -> Result<Renewed, StoreError> {
    let Lease { member, ttl } = lease;
    let (base, run) = (link.keys.global(), run(member.incarnation));
    let call = script::RENEW.on(&base).key(format!("{base}nodes")).key(format!("{base}node:{run}"));
    let call = call.arg(run).number(ttl.as_millis().max(1)).arg(say(member));
    let [fresh, others] = array(link.call(Access::Write, call).await?)?.try_into().map_err(|_| damaged())?;
    let others = array(others)?.into_iter().map(|said| layout::member(&bytes(said)?));
    let mut members = others.collect::<Result<Vec<_>, _>>()?;
    members.push(member.clone());
    members.sort_by_key(|member| member.incarnation);
    Ok(Renewed { fresh: fresh == Value::Int(1), members })
}

pub(super) async fn retire(link: &Link, incarnation: u64) -> Result<(), StoreError> {
    let (base, run) = (link.keys.global(), run(incarnation));
    let call = script::RETIRE.on(&base).key(format!("{base}nodes")).key(format!("{base}node:{run}")).arg(run);
    link.call(Access::Write, call).await.map(drop)
}

fn add_precondition(call: &mut Invocation, base: &str, precondition: &Precondition) {
    match precondition {
        Precondition::Absent(key) => {
            call.add_arg("absent");
            call.add_key(document(base, key));
        }
        Precondition::Version(key, version) => {
            call.add_arg("version");
            call.add_key(document(base, key));
            call.add_number(version);
        }
        Precondition::Owner(pile, fence) => {
            call.add_arg("owner");
            call.add_key(own(base, *pile));
            call.add_arg(session(fence.session));
            call.add_number(fence.epoch.0);
        }
    }
}

fn add_put(call: &mut Invocation, base: &str, put: &Put) {
    add_put_with(call, base, put, None);
}

fn add_put_with(call: &mut Invocation, base: &str, put: &Put, digest: Option<&[u8; 32]>) {
    let entries = entries(put);
    call.add_key(document(base, &put.key));
    call.add_arg(row_tail(&put.value, &entries, digest));
    call.add_number(entries.len());
    for entry in entries {
        call.add_arg(entry);
    }
}

type Told = (Arc<Entry>, Option<What>);

impl Appended {
    fn nothing() -> Self {
        Self { entries: vec![], behind: None }
    }

    fn of(told: Vec<Told>) -> Self {
        let behind = told.first().and_then(|(_, behind)| behind.clone());
        Self { entries: told.into_iter().map(|(entry, _)| entry).collect(), behind }
    }
}

/// `Ok` is the error to answer with.
fn conflict(failed: &Precondition, current: Option<Value>) -> Result<StoreError, StoreError> {
    let row = present(current.unwrap_or(Value::Nil))?;
    let current = row.map(|row| versioned(&row)).transpose()?;
    Ok(StoreError::Conflict { failed: Box::new(failed.clone()), current })
}

/// What was appended with the offset, epoch and seq it got, and what is before it.
fn entry(partition: Partition, append: &Append, place: Value) -> Result<Told, StoreError> {
    let [offset, epoch, seq, behind] = array(place)?.try_into().map_err(|_| damaged())?;
    let number = |value| number(&bytes(value)?);
    let Append { pile, payload } = append;
    let payload: Bytes = payload.clone();
    let (offset, epoch, seq) = (number(offset)?, Epoch(number(epoch)?), number(seq)?);
    let behind = What::said(&bytes(behind)?)?;
    Ok((Arc::new(Entry { partition, offset, pile: *pile, epoch, seq, payload }), behind))
}

/// Tells a repeated batch from another one under the same id. Compared only within the life of a session, which is
/// within the life of a process: the hash need not be stable over releases.
fn fingerprint(batch: &Batch) -> String {
    let mut hasher = DefaultHasher::new();
    batch.hash(&mut hasher);
    run(hasher.finish())
}
