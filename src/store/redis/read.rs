//! What is asked without being changed.

use std::sync::Arc;

use redis::Value;

use super::layout::{
    self, array, bounds, bytes, cursor, damaged, document, index, log_entry, number, own, pile_of, present, run,
    versioned,
};
use super::link::{Access, Link};
use super::script;
use crate::domain::{Fence, PileCode};
use crate::store::{Entry, Indexed, Key, Offset, Orphan, Partition, Scan, StoreError, Versioned};

pub(super) async fn get(link: &Link, partition: Partition, key: &Key) -> Result<Option<Versioned>, StoreError> {
    let mut command = redis::cmd("GET");
    command.arg(document(&link.keys.base(partition), key));
    present(link.send(command).await?)?.map(|row| versioned(&row)).transpose()
}

pub(super) async fn owner(link: &Link, partition: Partition, pile: PileCode) -> Result<Option<Fence>, StoreError> {
    let mut command = redis::cmd("HMGET");
    command.arg(own(&link.keys.base(partition), pile)).arg(&["session", "epoch"]);
    let [session, epoch] = array(link.send(command).await?)?.try_into().map_err(|_| damaged())?;
    match (present(session)?, present(epoch)?) {
        (Some(session), Some(epoch)) => layout::fence(&session, &epoch).map(Some),
        (None, _) | (_, None) => Ok(None),
    }
}

pub(super) async fn list(link: &Link, partition: Partition, scan: &Scan) -> Result<Vec<Indexed>, StoreError> {
    let Some((low, high)) = bounds(scan) else { return Ok(vec![]) };
    let base = link.keys.base(partition);
    let invocation = script::LIST.on(&base).key(index(&base, scan.index));
    let invocation = if scan.descending {
        invocation.arg("ZREVRANGEBYLEX").arg(high).arg(low)
    } else {
        invocation.arg("ZRANGEBYLEX").arg(low).arg(high)
    };
    let found = array(link.call(Access::Read, invocation.number(scan.limit)).await?)?;
    pairs(found)
        .map(|pair| {
            let (member, row) = pair?;
            Ok(Indexed { cursor: cursor(&member)?, document: versioned(&row)? })
        })
        .collect()
}

pub(super) async fn log(
    link: &Link,
    partition: Partition,
    after: Offset,
    limit: usize,
) -> Result<Vec<Arc<Entry>>, StoreError> {
    if limit == 0 {
        return Ok(vec![]);
    }
    let mut command = redis::cmd("XRANGE");
    command.arg(layout::log(&link.keys.base(partition)));
    command.arg(format!("({after}-0")).arg("+").arg("COUNT").arg(limit);
    array(link.send(command).await?)?.into_iter().map(|entry| log_entry(partition, entry)).collect()
}

pub(super) async fn log_end(link: &Link, partition: Partition) -> Result<Offset, StoreError> {
    let base = link.keys.base(partition);
    let invocation = script::LOG_END.on(&base).key(layout::log(&base));
    number(&bytes(link.call(Access::Read, invocation).await?)?)
}

pub(super) async fn orphans(
    link: &Link,
    partition: Partition,
    living: &[u64],
    after: Option<Orphan>,
    limit: usize,
) -> Result<Vec<Orphan>, StoreError> {
    let base = link.keys.base(partition);
    let (after_run, after_pile) = match after {
        Some(Orphan { pile, fence }) => (run(fence.session.incarnation), pile.to_string()),
        None => (String::new(), String::new()),
    };
    let mut invocation = script::ORPHANS.on(&base).key(format!("{base}runs")).arg(after_run).arg(after_pile);
    invocation = invocation.number(limit).number(living.len());
    for incarnation in living {
        invocation.add_arg(run(*incarnation));
    }
    let found = array(link.call(Access::Read, invocation).await?)?;
    let mut found = found.into_iter();
    let mut orphans = Vec::new();
    while let (Some(pile), Some(session), Some(epoch)) = (found.next(), found.next(), found.next()) {
        let fence = layout::fence(&bytes(session)?, &bytes(epoch)?)?;
        orphans.push(Orphan { pile: pile_of(&bytes(pile)?)?, fence });
    }
    Ok(orphans)
}

/// A list of names and rows in turn. An index entry without its document is a row that is missing.
pub(super) fn pairs(values: Vec<Value>) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> {
    let mut values = values.into_iter();
    std::iter::from_fn(move || {
        let (name, row) = (values.next()?, values.next()?);
        Some(bytes(name).and_then(|name| Ok((name, bytes(row)?))))
    })
}
