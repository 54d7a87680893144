//! Watches of the event log: a snapshot, then changes, to a client that may be slow or gone.
//!
//! Each watch is a task with a short queue to its client. When the queue is full the task waits, and with it only its
//! own place in the log: the log is the buffer. It ends when the client goes, when the node shuts down, or with the
//! error it met.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::error::ApiError;
use crate::store::QueryError;
use crate::store::StoreError;

/// What the client reads.
pub type Messages<T> = ReceiverStream<Result<T, Status>>;

/// Starts `run`, which sends through the [`Client`] it is given until it ends or fails.
pub fn watch<T, F>(shutdown: CancellationToken, run: impl FnOnce(Client<T>) -> F) -> Messages<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    let (queue, messages) = mpsc::channel(QUEUE);
    let running = run(Client(queue.clone()));
    tokio::spawn(async move {
        let to_the_end = async {
            match running.await {
                Ok(()) | Err(Ended::ClientGone) => {}
                // A client that has gone meanwhile needs no error.
                Err(Ended::Failed(error)) => drop(queue.send(Err(error.into())).await),
            }
        };
        tokio::select! {
            () = to_the_end => {}
            // Nothing may happen in the log for hours: a client that goes is noticed at once.
            () = queue.closed() => {}
            () = shutdown.cancelled() => {}
        }
    });
    ReceiverStream::new(messages)
}

/// The far end of a watch.
pub struct Client<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Client<T> {
    /// Waits while the client's queue is full.
    pub async fn send(&self, message: T) -> Result<(), Ended> {
        self.0.send(Ok(message)).await.map_err(|_| Ended::ClientGone)
    }
}

/// Why a watch stops.
#[derive(Debug)]
pub enum Ended {
    ClientGone,
    Failed(ApiError),
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<QueryError> for Ended {
    fn from(error: QueryError) -> Self {
        Self::Failed(error.into())
    }
}

/// Messages between the task and the client's connection; all that waits beyond them waits in the log.
const QUEUE: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_stream::StreamExt;

    use super::*;

    /// Sends numbers for ever and counts them in `sent`.
    async fn count(client: Client<usize>, sent: Arc<AtomicUsize>) -> Result<(), Ended> {
        loop {
            client.send(sent.load(Ordering::Relaxed)).await?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_its_own_watch_only() {
        let sent = Arc::new(AtomicUsize::new(0));
        let mut messages = watch(CancellationToken::new(), |client| count(client, sent.clone()));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(sent.load(Ordering::Relaxed), QUEUE);
        assert_eq!(messages.next().await.expect("message").expect("ok"), 0);
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_its_watch() {
        struct Dropped(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.take().map(|told| told.send(()));
            }
        }
        let (told, ended) = tokio::sync::oneshot::channel();
        let held = Dropped(Some(told));
        let messages = watch::<(), _>(CancellationToken::new(), |_client| async move {
            let _held = held;
            std::future::pending().await
        });
        drop(messages);
        ended.await.expect("the task lets go of what it holds");
    }

    #[tokio::test]
    async fn shutdown_ends_it_without_an_error_and_a_failure_with_one() {
        let shutdown = CancellationToken::new();
        let mut messages = watch::<(), _>(shutdown.clone(), |_client| std::future::pending());
        shutdown.cancel();
        assert!(messages.next().await.is_none());

        let failing = |_client: Client<()>| async { Err(StoreError::Unavailable("gone".into()).into()) };
        let mut messages = watch(CancellationToken::new(), failing);
        let status = messages.next().await.expect("a last message").expect_err("an error");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(messages.next().await.is_none());
    }
}
