//! Lists over partitions: each partition has its own index, and a page is a merge of them.
//!
//! Partitions are read a little at a time, as the merge comes to them, so that a page costs about a page and not a page
//! per partition. A page token says where the merge stopped; it holds for every partition at once, because the order
//! of entries is the same everywhere.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::try_join_all;
use prost::Message;
use sha2::{Digest, Sha256};

use super::document::{self, v1};
use super::ledger::Ledger;
use super::{IndexCursor, IndexName, Indexed, Key, Kind, Of, Partition, Scan, Store, StoreError};
use crate::domain::pile::Presence;
use crate::domain::{Order, OrderState, Pile, PileCode, WallMs, ids};

/// By pile code.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PileQuery {
    pub presence: Option<Presence>,
    /// 0 = [`DEFAULT_PAGE`]; more than [`MAX_PAGE`] = that.
    pub page_size: usize,
    /// "" = from the beginning; otherwise of a page of the same query.
    pub page_token: String,
}

/// Newest first, by creation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OrderQuery {
    pub pile: Option<PileCode>,
    pub state: Option<OrderState>,
    /// Inclusive.
    pub created_from: Option<WallMs>,
    /// Exclusive.
    pub created_to: Option<WallMs>,
    /// 0 = [`DEFAULT_PAGE`]; more than [`MAX_PAGE`] = that.
    pub page_size: usize,
    /// "" = from the beginning; otherwise of a page of the same query.
    pub page_token: String,
}

/// A page may be short, or empty, and still not be the last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// "" = no more.
    pub next_page_token: String,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QueryError {
    /// Of another query, damaged, or none of ours.
    #[error("the page token does not belong to this query")]
    BadPageToken,
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub const DEFAULT_PAGE: usize = 100;
pub const MAX_PAGE: usize = 1000;

impl Ledger {
    pub async fn piles(&self, query: PileQuery) -> Result<Page<Pile>, QueryError> {
        let PileQuery { presence, page_size, page_token } = query;
        let scan = match presence {
            Some(presence) => ascending(IndexName::PilePresence, document::presence_prefix(presence)),
            None => ascending(IndexName::Pile, String::new()),
        };
        let walk = Walk { filter: format!("piles {presence:?}"), kind: Kind::Pile, scan, partition: None };
        walk.page(&**self.store(), page_size, &page_token, |key, value| document::read_pile(key, value).map(Some)).await
    }

    pub async fn orders(&self, query: OrderQuery) -> Result<Page<Order>, QueryError> {
        let OrderQuery { pile, state, created_from, created_to, page_size, page_token } = query;
        // A pile's own orders are few enough to look through for a state; everybody's are not.
        let (index, prefix) = match (pile, state) {
            (Some(pile), _) => (IndexName::OrderPile, pile.to_string()),
            (None, Some(state)) => (IndexName::OrderState, document::order_state_prefix(state)),
            (None, None) => (IndexName::OrderTime, String::new()),
        };
        let bound = |at: Option<WallMs>| at.map(|at| prefix.clone() + &document::sortable(at)).unwrap_or_default();
        let scan = Scan {
            from: bound(created_from),
            // A time alone sorts before the same time with a serial behind it: the bound is exclusive.
            to: bound(created_to),
            descending: true,
            ..ascending(index, prefix.clone())
        };
        let filter = format!("orders {pile:?} {state:?} {created_from:?} {created_to:?}");
        let partition = pile.map(|pile| Partition::of(pile, self.store().partitions()));
        let walk = Walk { filter, kind: Kind::Order, scan, partition };
        let read = |key: &Key, value: &[u8]| {
            let order = document::read_order(key, value)?;
            Ok(Some(order).filter(|order| state.is_none_or(|state| order.state == state)))
        };
        walk.page(&**self.store(), page_size, &page_token, read).await
    }

    /// The open orders of a pile and their versions, by gun and serial: what a claim returns, without one. At most
    /// [`Scan::MAX_LIMIT`].
    pub async fn open_orders(&self, pile: PileCode) -> Result<Vec<(Order, u64)>, StoreError> {
        let partition = Partition::of(pile, self.store().partitions());
        let scan = Scan { limit: Scan::MAX_LIMIT, ..ascending(IndexName::OrderOpen, pile.to_string()) };
        let found = self.store().list(partition, scan).await?.into_iter();
        found
            .map(|Indexed { cursor, document: stored }| {
                document::read_order(&cursor.key, &stored.value).map(|order| (order, stored.version))
            })
            .collect()
    }
}

fn ascending(index: IndexName, prefix: String) -> Scan {
    Scan { index, prefix, after: None, from: String::new(), to: String::new(), descending: false, limit: 0 }
}

/// One list: what it is of, and how it is walked.
struct Walk {
    /// What a page token belongs to.
    filter: String,
    kind: Kind,
    scan: Scan,
    /// `None` = all.
    partition: Option<Partition>,
}

impl Walk {
    async fn page<T>(
        mut self,
        store: &dyn Store,
        page_size: usize,
        page_token: &str,
        read: impl Fn(&Key, &[u8]) -> Result<Option<T>, StoreError>,
    ) -> Result<Page<T>, QueryError> {
        let size = if page_size == 0 { DEFAULT_PAGE } else { page_size.min(MAX_PAGE) };
        if !page_token.is_empty() {
            self.scan.after = Some(self.open_token(page_token)?);
        }
        let partitions = match self.partition {
            Some(partition) => vec![partition],
            None => (0..store.partitions()).map(Partition).collect(),
        };
        // Twice an even share: then most partitions are read once.
        self.scan.limit = (2 * size / partitions.len()).clamp(4, Scan::MAX_LIMIT);
        let mut heads = try_join_all(partitions.into_iter().map(|p| Head::start(store, p, self.scan.clone()))).await?;

        let mut items = Vec::new();
        let mut last = None;
        for _ in 0..MAX_LOOKED_AT {
            if items.len() == size {
                break;
            }
            let Some(next) = next(&mut heads, self.scan.descending) else {
                return Ok(Page { items, next_page_token: String::new() });
            };
            let Some(Indexed { cursor, document }) = next.waiting.pop_front() else { break };
            next.refill(store).await?;
            items.extend(read(&cursor.key, &document.value)?);
            last = Some(cursor);
        }
        let more = next(&mut heads, self.scan.descending).is_some();
        let token = last.filter(|_| more).map(|cursor| self.seal_token(cursor));
        Ok(Page { items, next_page_token: token.unwrap_or_default() })
    }

    fn seal_token(&self, IndexCursor { sort, key }: IndexCursor) -> String {
        let pile = Bytes::copy_from_slice(&key.of.to_bytes());
        let mut token = v1::PageToken { check: Bytes::new(), sort, pile, id: key.id.into() };
        token.check = self.check(&token);
        ids::hex(&token.encode_to_vec())
    }

    fn open_token(&self, text: &str) -> Result<IndexCursor, QueryError> {
        let bytes = document::unhex(text).ok_or(QueryError::BadPageToken)?;
        let token = v1::PageToken::decode(&*bytes).map_err(|_| QueryError::BadPageToken)?;
        if token.check != self.check(&token) {
            return Err(QueryError::BadPageToken);
        }
        let v1::PageToken { check: _, sort, pile, id } = token;
        let of = pile[..].try_into().ok().and_then(Of::from_bytes).ok_or(QueryError::BadPageToken)?;
        Ok(IndexCursor { sort, key: Key { kind: self.kind, of, id: id.into() } })
    }

    fn check(&self, token: &v1::PageToken) -> Bytes {
        let v1::PageToken { check: _, sort, pile, id } = token;
        let mut hash = Sha256::new();
        for part in [self.filter.as_bytes(), sort.as_bytes(), pile, id] {
            // The length first, so that ("ab", "c") and ("a", "bc") differ.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Bytes::copy_from_slice(&hash.finalize()[..8])
    }
}

/// One partition's part of a merge. While it has more, something of it waits.
struct Head {
    partition: Partition,
    scan: Scan,
    waiting: VecDeque<Indexed>,
    exhausted: bool,
}

impl Head {
    async fn start(store: &dyn Store, partition: Partition, scan: Scan) -> Result<Self, StoreError> {
        let mut head = Self { partition, scan, waiting: VecDeque::new(), exhausted: false };
        head.refill(store).await?;
        Ok(head)
    }

    async fn refill(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        if !self.waiting.is_empty() || self.exhausted {
            return Ok(());
        }
        let found = store.list(self.partition, self.scan.clone()).await?;
        self.exhausted = found.len() < self.scan.limit;
        if let Some(last) = found.last() {
            self.scan.after = Some(last.cursor.clone());
        }
        self.waiting = found.into();
        Ok(())
    }
}

/// The head whose entry comes first.
fn next(heads: &mut [Head], descending: bool) -> Option<&mut Head> {
    let waiting = heads.iter_mut().filter(|head| !head.waiting.is_empty());
    let by_cursor = |a: &&mut Head, b: &&mut Head| {
        let (a, b) = (a.waiting.front().map(|i| &i.cursor), b.waiting.front().map(|i| &i.cursor));
        a.cmp(&b)
    };
    if descending { waiting.max_by(by_cursor) } else { waiting.min_by(by_cursor) }
}

/// Entries one page looks at: a filter that matches little ends in a short page with a token, not in a long call.
const MAX_LOOKED_AT: usize = 4 * MAX_PAGE;
