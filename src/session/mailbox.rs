//! A mailbox: many writers, one reader, bounded, and next to nothing while it is empty.
//!
//! Idle connections are many. tokio's channel keeps room for 32 letters from the start and its two sides on cache lines
//! of their own: 800 bytes, a sixth of what an idle session takes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::task::AtomicWaker;

#[derive(Debug)]
pub struct Mailbox<T> {
    letters: Mutex<Letters<T>>,
    reader: AtomicWaker,
}

#[derive(Debug)]
struct Letters<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// Why a letter was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    Full,
    /// Nobody reads any more.
    Closed,
}

impl<T> Mailbox<T> {
    pub fn new() -> Self {
        let letters = Letters { waiting: VecDeque::new(), closed: false };
        Self { letters: Mutex::new(letters), reader: AtomicWaker::new() }
    }

    /// Takes the letter unless so many wait already. It is the writer who says how many: a letter that must get through
    /// may wait behind any number of others, and is bounded by what it tells.
    pub fn put(&self, letter: T, bound: usize) -> Result<(), NotTaken> {
        let mut letters = self.lock();
        if letters.closed {
            return Err(NotTaken::Closed);
        }
        if letters.waiting.len() >= bound {
            return Err(NotTaken::Full);
        }
        letters.waiting.push_back(letter);
        drop(letters);
        self.reader.wake();
        Ok(())
    }

    /// The letter that has waited longest. Cancel-safe; for one reader only.
    pub async fn next(&self) -> T {
        poll_fn(|context| {
            // Registered first: a letter that comes in between wakes.
            self.reader.register(context.waker());
            self.lock().waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Takes no more letters, and drops those nobody will read.
    pub fn close(&self) {
        let mut letters = self.lock();
        letters.closed = true;
        let unread = std::mem::take(&mut letters.waiting);
        // Dropping a letter may wake its writer, who may write again.
        drop(letters);
        drop(unread);
    }

    fn lock(&self) -> MutexGuard<'_, Letters<T>> {
        // A panic while the lock was held cannot leave the queue half changed.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn letters_are_read_in_order_and_wake_the_reader() {
        let mailbox = Arc::new(Mailbox::new());
        let reader = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { [mailbox.next().await, mailbox.next().await] }
        });
        tokio::task::yield_now().await;
        assert_eq!(mailbox.put(1, 2), Ok(()));
        assert_eq!(mailbox.put(2, 2), Ok(()));
        assert_eq!(reader.await.unwrap(), [1, 2]);
    }

    #[test]
    fn a_full_mailbox_still_takes_what_must_get_through() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.put("command", 1), Ok(()));
        assert_eq!(mailbox.put("command", 1), Err(NotTaken::Full));
        assert_eq!(mailbox.put("shutdown", usize::MAX), Ok(()));
        assert_eq!(mailbox.next().now_or_never(), Some("command"));
        assert_eq!(mailbox.next().now_or_never(), Some("shutdown"));
        assert_eq!(mailbox.next().now_or_never(), None);
    }

    #[test]
    fn a_closed_mailbox_drops_what_nobody_will_read() {
        let mailbox = Mailbox::new();
        let letter = Arc::new(());
        assert_eq!(mailbox.put(letter.clone(), 1), Ok(()));
        mailbox.close();
        assert_eq!(Arc::strong_count(&letter), 1);
        assert_eq!(mailbox.put(letter, 1), Err(NotTaken::Closed));
    }
}
