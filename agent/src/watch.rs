//! Looks, time and again, at what happens to the machine without anybody telling.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    machine::{Event, Notices},
    ports::{Cause, Metadata},
};

/// EC2 gives two minutes' notice, and recommends to look every five seconds at least.
const LOOK: Duration = Duration::from_secs(2);

/// Tells what is new until nobody listens any more, or there never will be anything.
pub(crate) async fn notices(metadata: Arc<dyn Metadata>, events: UnboundedSender<Event>) {
    let mut known = Notices::default();
    let mut watched = false;
    let mut trouble = None;
    while !events.is_closed() {
        match look(&*metadata, &mut watched).await {
            Ok(Some(notices)) => {
                trouble = None;
                if notices != known {
                    known = notices;
                    // Nobody listens: so the loop above ends.
                    let _ = events.send(Event::Noticed(notices));
                }
            }
            Ok(None) => return,
            Err(cause) if trouble.as_ref() != Some(&cause) => {
                tracing::warn!("an interruption would come as a surprise: {cause}");
                trouble = Some(cause);
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What there is; nothing on a machine that EC2 leaves alone.
async fn look(metadata: &dyn Metadata, watched: &mut bool) -> Result<Option<Notices>, Cause> {
    if !*watched {
        *watched = metadata.may_be_taken_away().await?;
    }
    if !*watched {
        return Ok(None);
    }
    metadata.notices().await.map(Some)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use tokio::sync::mpsc;

    use super::*;
    use crate::ports::Identity;

    #[derive(Default)]
    struct Service {
        spot: bool,
        asked: AtomicU32,
        looked: AtomicU32,
    }

    #[async_trait]
    impl Metadata for Service {
        async fn identity(&self) -> Result<Identity, Cause> {
            Err("nobody asks here".to_owned())
        }

        async fn user_data(&self) -> Result<Option<Vec<u8>>, Cause> {
            Err("nobody asks here".to_owned())
        }

        async fn may_be_taken_away(&self) -> Result<bool, Cause> {
            match self.asked.fetch_add(1, Ordering::Relaxed) {
                0 => Err("busy".to_owned()),
                _ => Ok(self.spot),
            }
        }

        async fn notices(&self) -> Result<Notices, Cause> {
            Ok(Notices {
                interruption: None,
                rebalance: self.looked.fetch_add(1, Ordering::Relaxed) >= 2,
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_spot_machine_is_watched_and_one_that_stays_is_asked_no_more() {
        let (send, mut events) = mpsc::unbounded_channel();
        let spot = Arc::new(Service {
            spot: true,
            ..Service::default()
        });
        let watch = tokio::spawn(notices(spot.clone(), send.clone()));
        let rebalance = Notices {
            interruption: None,
            rebalance: true,
        };
        assert_eq!(events.recv().await, Some(Event::Noticed(rebalance)));
        assert_eq!(spot.asked.load(Ordering::Relaxed), 2);
        watch.abort();
        let stays = Arc::new(Service::default());
        notices(stays.clone(), send).await;
        assert_eq!(stays.looked.load(Ordering::Relaxed), 0);
    }
}
