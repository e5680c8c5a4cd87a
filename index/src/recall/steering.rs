//! What a search has to aim at to reach the recall that is wanted, learnt from the searches that were compared with the
//! truth.
//!
//! The beam that should reach a recall was measured when a graph was built, with queries made of its vectors; those of the
//! users may be harder or easier. Each sample shifts the aim a little: a hit that was missed narrows the loss aimed at, a
//! search that missed nothing widens it, in such a proportion that both balance where the loss is the one wanted
//! (stochastic approximation: Robbins & Monro, 1951; with a constant step, so that it follows when questions change). In
//! memory only: after a restart it begins at what was measured. It must not know beams.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::schema::RecallTarget;

/// How far one sample shifts the logarithm of the loss aimed at, per loss wanted that it differs: some two hundred samples
/// halve or double it, and at rest the recall stays within a fifth of the loss.
const STEP: f32 = 0.005;
/// Losses wanted beyond which a sample counts no more: hardly any path leads to a few vectors of most collections.
const MOST_LOSSES: f32 = 50.0;
/// The loss aimed at, as a part of the one wanted: no less than this...
const LEAST: f32 = 0.125;
/// ...and no more than this: questions that nobody has asked yet may be harder.
const MOST: f32 = 2.0;

/// Steers the searches of one vector space.
#[derive(Debug, Default)]
pub(crate) struct Steering {
    /// Bits of the logarithm of loss aimed at / loss wanted.
    shift: AtomicU32,
}

impl Steering {
    /// Learns from a search that aimed at `target` by a walk: it found `found` of `wanted` hits. One caller at a time.
    pub(crate) fn learn(&self, target: RecallTarget, found: u64, wanted: u64) {
        let loss = wanted.saturating_sub(found) as f32 / wanted.max(1) as f32;
        let losses = (loss / loss_of(target)).min(MOST_LOSSES);
        let shift = (self.shift() + STEP * (1.0 - losses)).clamp(LEAST.ln(), MOST.ln());
        self.shift.store(shift.to_bits(), Ordering::Relaxed);
    }

    /// What to aim at, so that `target` is reached.
    pub(crate) fn aim(&self, target: RecallTarget) -> RecallTarget {
        let shift = self.shift();
        if shift == 0.0 { target } else { RecallTarget::nearest(1.0 - loss_of(target) * shift.exp()) }
    }

    fn shift(&self) -> f32 {
        f32::from_bits(self.shift.load(Ordering::Relaxed))
    }
}

fn loss_of(target: RecallTarget) -> f32 {
    1.0 - target.get()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    /// The mean recall of searches whose loss is so many times what they aim at, behind those that steer.
    fn reached(rng: &mut StdRng, steering: &Steering, target: RecallTarget, times: f32) -> f32 {
        let mut found_in_all = 0;
        for sample in 0..6_000 {
            let loss = (loss_of(steering.aim(target)) * times).min(1.0);
            let found = (0..10).filter(|_| rng.random::<f32>() >= loss).count() as u64;
            steering.learn(target, found, 10);
            found_in_all += if sample >= 2_000 { found } else { 0 };
        }
        found_in_all as f32 / 40_000.0
    }

    #[test]
    fn what_was_measured_too_easy_or_too_hard_ends_near_the_target() {
        let mut rng = StdRng::seed_from_u64(5);
        for target in [0.9, 0.99].map(|target| RecallTarget::new(target, "").unwrap()) {
            for times in [3.0, 1.0, 0.6] {
                let recall = reached(&mut rng, &Steering::default(), target, times);
                let loss = (1.0 - recall) / loss_of(target);
                assert!((0.8..1.25).contains(&loss), "{target:?} x {times}: {loss} of the loss wanted");
            }
            let steering = Steering::default();
            let easy = reached(&mut rng, &steering, target, 0.01);
            assert!(easy > target.get(), "{easy}: no further than half the way is trusted");
            assert!((loss_of(steering.aim(target)) / loss_of(target) - MOST).abs() < 0.01);
            // And back, when questions become harder.
            let loss = (1.0 - reached(&mut rng, &steering, target, 3.0)) / loss_of(target);
            assert!((0.8..1.25).contains(&loss), "{target:?}: {loss}");
        }
    }

    #[test]
    fn it_begins_at_the_target_and_one_miss_does_not_throw_it() {
        let steering = Steering::default();
        let target = RecallTarget::DEFAULT;
        assert_eq!(steering.aim(target), target);
        steering.learn(target, 0, 10);
        let loss = loss_of(steering.aim(target)) / loss_of(target);
        assert!((0.75..1.0).contains(&loss), "{loss}");
        steering.learn(target, 0, 0);
        (0..10_000).for_each(|_| steering.learn(target, 0, 10));
        assert!(steering.aim(target).get() > 0.998);
    }
}
