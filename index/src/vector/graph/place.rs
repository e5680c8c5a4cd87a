//! An order in which nodes that are near each other follow each other, taken from the links of a level.
//!
//! Work on many nodes in such an order finds what it reads in the processor's caches, because the work on the node before has
//! read most of it. It must not know vectors.

use crate::vector::graph::walk::Links;

/// The place of each node of a level: when a search in depth from `entry` meets it, which goes to the first neighbour first,
/// usually the nearest. `u32::MAX` for nodes that it doesn't meet.
pub(crate) fn places(links: &impl Links, entry: u32, level: usize) -> Vec<u32> {
    let mut places = vec![u32::MAX; links.nodes()];
    let (mut waiting, mut next) = (vec![entry], 0);
    while let Some(node) = waiting.pop() {
        let Some(place) = places.get_mut(node as usize).filter(|place| **place == u32::MAX) else { continue };
        *place = next;
        next += 1;
        let from = waiting.len();
        links.for_each(node, level, |neighbour| waiting.push(neighbour));
        waiting.get_mut(from..).unwrap_or_default().reverse();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::graph::builder::Graph;
    use crate::vector::graph::walk::NO_NODE;

    #[test]
    fn the_first_neighbour_comes_next_and_what_no_link_leads_to_has_no_place() {
        let lists: [[u32; 4]; 6] = [
            [3, 1, NO_NODE, NO_NODE],
            [0, 4, NO_NODE, NO_NODE],
            [0, NO_NODE, NO_NODE, NO_NODE],
            [4, 0, 1, NO_NODE],
            [3, NO_NODE, NO_NODE, NO_NODE],
            [2, NO_NODE, NO_NODE, NO_NODE],
        ];
        let graph =
            Graph { m: 2, entry: 0, level0: lists.concat(), upper_starts: vec![0; 7], upper: Vec::new() };
        assert_eq!(places(&graph, graph.entry, 0), [0, 3, u32::MAX, 1, 2, u32::MAX]);
    }
}
