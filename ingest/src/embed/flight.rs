//! Texts that are being embedded right now: whoever brings one of them meanwhile waits for its vector in place of
//! embedding it too. It neither embeds nor stores.
//!
//! **Invariant:** a caller finishes its own texts before it waits for those of others, so nobody waits in a circle.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::cache::TextKey;

/// The vectors of one caller's texts, once they are there.
type Landing = Option<Arc<Vec<Vec<f32>>>>;

/// Texts that are being embedded right now.
#[derive(Debug, Default)]
pub(super) struct Flights {
    open: Mutex<HashMap<TextKey, Claim>>,
}

#[derive(Debug)]
struct Claim {
    landing: Arc<watch::Sender<Landing>>,
    position: usize,
}

/// A text that somebody else is embedding.
#[derive(Debug)]
pub(super) struct Awaited {
    landing: watch::Receiver<Landing>,
    position: usize,
}

/// Texts that a caller has taken on. Dropped without a landing, whoever waits for one of them takes it on instead.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    landing: Arc<watch::Sender<Landing>>,
    keys: Vec<TextKey>,
}

impl Flights {
    /// Texts that are being embedded.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// How many times somebody waits for a text of somebody else.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        let open = self.open.lock();
        let landings: HashMap<_, _> = open
            .values()
            .map(|claim| (Arc::as_ptr(&claim.landing), claim.landing.receiver_count()))
            .collect();
        landings.values().sum()
    }

    /// Takes on those of `keys` that nobody embeds now. Each key's place in the result: `None` for one that was taken on,
    /// in their order.
    pub fn depart(self: &Arc<Self>, keys: &[TextKey]) -> (Flight, Vec<Option<Awaited>>) {
        let landing = Arc::new(watch::Sender::new(None));
        let mut flight = Flight { flights: Arc::clone(self), landing, keys: Vec::new() };
        let mut open = self.open.lock();
        let awaited = keys.iter().map(|key| match open.get(key) {
            Some(claim) => Some(Awaited { landing: claim.landing.subscribe(), position: claim.position }),
            None => {
                let position = flight.keys.len();
                open.insert(*key, Claim { landing: Arc::clone(&flight.landing), position });
                flight.keys.push(*key);
                None
            }
        });
        let awaited = awaited.collect();
        drop(open);
        (flight, awaited)
    }
}

impl Flight {
    /// Tells those who wait. `vectors` are those of the keys that were taken on, in order.
    pub fn land(self, vectors: &[Vec<f32>]) {
        self.end();
        // After the end nobody joins any more, so nothing is copied for nobody.
        if self.landing.receiver_count() > 0 {
            self.landing.send_replace(Some(Arc::new(vectors.to_vec())));
        }
    }

    fn end(&self) {
        let mut open = self.flights.open.lock();
        for key in &self.keys {
            if open.get(key).is_some_and(|claim| Arc::ptr_eq(&claim.landing, &self.landing)) {
                open.remove(key);
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.end();
    }
}

impl Awaited {
    /// Waits for the vector. `None`: whoever had taken the text on failed or went away.
    pub async fn vector(mut self) -> Option<Vec<f32>> {
        let landed = self.landing.wait_for(Option::is_some).await.ok()?;
        landed.as_ref()?.get(self.position).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use futures::FutureExt;

    use super::*;

    fn keys(texts: &[&str]) -> Vec<TextKey> {
        texts.iter().map(|text| TextKey::new("m", text)).collect()
    }

    #[tokio::test]
    async fn a_text_is_taken_on_once_and_everybody_gets_its_vector() {
        let flights = Arc::new(Flights::default());
        let (first, awaited) = flights.depart(&keys(&["a", "b"]));
        assert!(awaited.iter().all(Option::is_none));
        let (second, mut awaited) = flights.depart(&keys(&["c", "b", "a"]));
        assert_eq!(awaited.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
        let (a, b) = (awaited.pop().flatten().unwrap(), awaited.pop().flatten().unwrap());
        let mut waiting = Box::pin(b.vector());
        assert!(waiting.as_mut().now_or_never().is_none());
        first.land(&[vec![1.0], vec![2.0]]);
        assert_eq!(waiting.await, Some(vec![2.0]));
        assert_eq!(a.vector().await, Some(vec![1.0]));
        second.land(&[vec![3.0]]);
        assert!(flights.open.lock().is_empty());
    }

    #[tokio::test]
    async fn a_flight_that_is_lost_frees_its_texts() {
        let flights = Arc::new(Flights::default());
        let (first, _) = flights.depart(&keys(&["a"]));
        let (_second, mut awaited) = flights.depart(&keys(&["a"]));
        drop(first);
        assert_eq!(awaited.pop().flatten().unwrap().vector().await, None);
        let (_third, awaited) = flights.depart(&keys(&["a"]));
        assert!(awaited[0].is_none());
    }
}
