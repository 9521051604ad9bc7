//! Looks, time and again, at what happens to the machine without anybody telling.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    machine::{Event, Notices},
    ports::Metadata,
};

/// EC2 gives two minutes' notice, and recommends to look every five seconds at least.
const LOOK: Duration = Duration::from_secs(2);

/// Tells what is new until nobody listens any more.
pub(crate) async fn notices(metadata: Arc<dyn Metadata>, events: UnboundedSender<Event>) {
    let mut known = Notices::default();
    let mut trouble = None;
    while !events.is_closed() {
        match metadata.notices().await {
            Ok(notices) => {
                trouble = None;
                if notices != known {
                    known = notices;
                    // Nobody listens: so the loop above ends.
                    let _ = events.send(Event::Noticed(notices));
                }
            }
            Err(cause) if trouble.as_ref() != Some(&cause) => {
                tracing::warn!("an interruption would come as a surprise: {cause}");
                trouble = Some(cause);
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}
