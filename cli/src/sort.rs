//! Sorting, with one copy of the code: the standard library's is 3 KB for each type and order that it is used with, and this program
//! goes into the dump kernel's RAM disk. So it sorts numbers, and then the items are moved to where their numbers are. For the same
//! reason sets and maps are extended where they could be collected: the library sorts then.

use std::cmp::Ordering;

/// As [`slice::sort`].
pub fn all<T: Ord>(items: &mut [T]) {
    by(items, T::cmp);
}

/// As [`slice::sort_by_key`].
pub fn by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    by(items, |one, other| key(one).cmp(&key(other)));
}

/// As [`slice::sort_by_cached_key`]: each item is asked once.
pub fn by_cached_key<T, K: Ord>(items: &mut [T], key: impl FnMut(&T) -> K) {
    let keys: Vec<_> = items.iter().map(key).collect();
    let order = order(keys.len(), &|one, other| keys[*one].cmp(&keys[*other]));
    arrange(order, &mut |one, other| items.swap(one, other));
}

/// As [`slice::sort_by`].
pub fn by<T>(items: &mut [T], compare: impl Fn(&T, &T) -> Ordering) {
    let order = order(items.len(), &|one, other| compare(&items[*one], &items[*other]));
    arrange(order, &mut |one, other| items.swap(one, other));
}

/// The number of the item that is to be at each place.
fn order(len: usize, compare: &dyn Fn(&usize, &usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<_> = (0..len).collect();
    order.sort_by(compare);
    order
}

/// Swaps items until each is in its place: round by round of those that are in each other's.
fn arrange(mut order: Vec<usize>, swap: &mut dyn FnMut(usize, usize)) {
    for start in 0..order.len() {
        let mut place = start;
        loop {
            let from = std::mem::replace(&mut order[place], place);
            if from == start {
                break;
            }
            swap(place, from);
            place = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn items_are_sorted_as_the_standard_library_does(items in prop::collection::vec((0u8..9, any::<u8>()), 0..99)) {
            let (mut expected, mut sorted) = (items.clone(), items.clone());
            expected.sort_by_key(|item| item.0);
            by_key(&mut sorted, |item| item.0);
            prop_assert_eq!(&sorted, &expected);
            let (mut sorted, mut asked) = (items.clone(), 0);
            by_cached_key(&mut sorted, |item| {
                asked += 1;
                item.0
            });
            prop_assert_eq!((&sorted, asked), (&expected, items.len()));
            expected.sort_unstable();
            all(&mut sorted);
            prop_assert_eq!(sorted, expected);
        }
    }
}
