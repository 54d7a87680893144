//! What groups of event consumers stand on: documents of no pile, a log that is trimmed, and places in it.

use std::sync::Arc;

use pileway::domain::{Event, EventKind, Serial, WallMs};
use pileway::store::*;

use crate::common::{append, batch, partition, pile};

type Any = Arc<dyn Store>;

pub async fn documents_may_belong_to_no_pile(store: Any) {
    let key = |of, id: &str| Key { kind: Kind::Group, of: Of::Partition(of), id: id.as_bytes().to_vec() };
    let put = |of, id: &str| Put {
        key: key(of, id),
        value: id.to_owned().into(),
        indexes: vec![
            IndexEntry { index: IndexName::Group, sort: id.to_owned() },
            IndexEntry { index: IndexName::Expiry, sort: "1".to_owned() },
        ],
    };
    for (n, of) in [Partition::GLOBAL, Partition(0), Partition(63)].into_iter().enumerate() {
        let mut first = batch(n as u64 + 1, 1);
        first.require = vec![Precondition::Absent(key(of, "b"))];
        first.put = vec![put(of, "b"), put(of, "a")];
        assert_eq!(store.commit(of, first.clone()).await.expect("commits").versions, [1, 1]);
        first.id = None;
        assert!(matches!(store.commit(of, first).await, Err(StoreError::Conflict { .. })));
        let found = store.get(key(of, "a")).await.expect("reads").expect("is there");
        assert_eq!((found.version, &found.value[..]), (1, &b"a"[..]));
        let listed = store.list(of, crate::common::scan(IndexName::Group, "")).await.expect("lists");
        let keys: Vec<_> = listed.into_iter().map(|listed| listed.cursor.key).collect();
        assert_eq!(keys, [key(of, "a"), key(of, "b")]);
    }
    // One partition's are not another's.
    let mut stray = batch(9, 1);
    stray.put = vec![put(Partition(1), "a")];
    assert!(matches!(store.commit(Partition::GLOBAL, stray).await, Err(StoreError::Invalid(_))));
    assert_eq!(store.expire(Partition::GLOBAL, "2".to_owned(), 10).await, Ok(2));
    assert_eq!(store.get(key(Partition::GLOBAL, "a")).await, Ok(None));
    assert!(store.get(key(Partition(0), "a")).await.expect("reads").is_some());
}

pub async fn a_log_is_trimmed_from_its_beginning_and_never_whole(store: Any) {
    let at = partition(&*store, pile(1));
    assert_eq!(store.trim(at, 100, 100).await, Ok(0), "nothing there");
    tell(&store, 10, WallMs(1)).await;
    let offsets = async || {
        let entries = store.read_log(at, 0, 100).await.expect("reads");
        entries.iter().map(|entry| entry.offset).collect::<Vec<_>>()
    };
    assert_eq!(store.trim(at, 0, 100).await, Ok(0));
    assert_eq!(store.trim(at, 1, 100).await, Ok(0));
    assert_eq!(store.trim(at, 4, 100).await, Ok(3));
    assert_eq!(store.trim(at, 4, 100).await, Ok(0));
    assert_eq!(offsets().await, [4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(store.trim(at, 9, 2).await, Ok(2), "no more than so many at once");
    assert_eq!(store.trim(at, 1000, 1000).await, Ok(4));
    assert_eq!(offsets().await, [10]);
    assert_eq!(store.log_end(at).await, Ok(10));
    tell(&store, 1, WallMs(1)).await;
    assert_eq!(offsets().await, [10, 11], "numbers go on");
}

pub async fn a_reader_goes_on_where_it_was_and_is_told_what_is_missing(store: Any) {
    let at = partition(&*store, pile(1));
    let read = async |position: Position| {
        let (gap, entries) = position.read_on(&*store, at, 3).await.expect("reads");
        (gap, entries.iter().map(|entry| entry.offset).collect::<Vec<_>>())
    };
    assert_eq!(read(Position::START).await, (None, vec![]));
    tell(&store, 10, WallMs(600_000)).await;
    assert_eq!(read(Position::START).await, (None, vec![1, 2, 3]));
    let entry = |offset: u64| {
        let store = store.clone();
        async move { store.read_log(at, offset - 1, 1).await.expect("reads").remove(0) }
    };
    let behind = Position::behind(&*entry(4).await, WallMs(600_000));
    let end = Position::end(&*store, at).await.expect("reads");
    assert_eq!(end, Position::behind(&*entry(10).await, WallMs(600_000)));
    assert_eq!(read(behind).await, (None, vec![5, 6, 7]));
    assert_eq!(read(end).await, (None, vec![]));

    store.trim(at, 4, 100).await.expect("trims");
    assert_eq!(read(behind).await, (None, vec![5, 6, 7]));
    store.trim(at, 5, 100).await.expect("trims");
    assert_eq!(read(behind).await, (None, vec![5, 6, 7]), "what is missing has been read");
    store.trim(at, 8, 100).await.expect("trims");
    let gap = |from, to, reason| Some(Gap { partition: at, from, to, reason });
    assert_eq!(read(behind).await, (gap(5, 7, GapReason::Trimmed), vec![8, 9, 10]));
    assert_eq!(read(Position::START).await, (gap(1, 7, GapReason::Trimmed), vec![8, 9, 10]));
    assert_eq!(Position::earliest(&*store, at).await.expect("reads").offset, 7);

    // As after a loss: the entry there is not the one that was read.
    let mark = end.mark.map(|mark| Mark { seq: 99, ..mark });
    let elsewhere = Position { mark, ..end };
    assert_eq!(read(elsewhere).await, (gap(8, 10, GapReason::Lost), vec![8, 9, 10]));
    let beyond = Position { offset: 20, ..end };
    assert_eq!(read(beyond).await, (gap(8, 20, GapReason::Lost), vec![8, 9, 10]));
    let beyond = Position { offset: 20, ..Position::START };
    assert_eq!(read(beyond).await.0.map(|gap| gap.reason), Some(GapReason::Lost));
    // What was recorded long before it is not told again.
    tell(&store, 2, WallMs(6_000_000)).await;
    let later = Position { at: WallMs(6_000_001), ..elsewhere };
    assert_eq!(read(later).await, (gap(11, 10, GapReason::Lost), vec![11, 12]));
}

pub async fn a_place_in_the_log_is_found_by_its_time(store: Any) {
    let at = partition(&*store, pile(1));
    for n in 1..=100 {
        tell(&store, 1, WallMs(n * 10)).await;
    }
    let check = async |time, offset| {
        let found = Position::before(&*store, at, WallMs(time)).await.expect("reads");
        assert_eq!(found.offset, offset, "{time}");
    };
    for (time, offset) in [(0, 0), (10, 0), (11, 1), (500, 49), (501, 50), (1000, 99), (1001, 100), (99_999, 100)] {
        check(time, offset).await;
    }
    store.trim(at, 51, 100).await.expect("trims");
    for (time, offset) in [(0, 50), (500, 50), (510, 50), (511, 51), (1001, 100)] {
        check(time, offset).await;
    }
}

/// So many events of one pile.
async fn tell(store: &Any, count: u64, at: WallMs) {
    let serial = Serial::from_bytes([7; 16]);
    let event = Event { pile: pile(1), recorded_at: at, pile_time: None, kind: EventKind::RecordConflict { serial } };
    let mut told = batch(1, 1);
    told.id = None;
    told.append = vec![Append { payload: document::append(&event).payload, ..append(pile(1), "") }; count as usize];
    store.commit(partition(&**store, pile(1)), told).await.expect("commits");
}
