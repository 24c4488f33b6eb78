//! Which module gets how many bits, so that a model stays within a size: a knapsack with a choice for each module.
//!
//! Losses are taken to add up. Knows sizes and losses, and nothing of where they come from.

use serde::Serialize;

/// One module, or projections that are quantized alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensitivity {
    /// Its path in the model, `*` for the number of an expert.
    pub module: String,
    /// What it may become, by rising size.
    pub choices: Vec<Choice>,
}

/// A width of a module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// Bits of a code.
    pub bits: u32,
    /// Codes, scales and biases.
    pub bytes: u64,
    /// What it costs: nats per token by which the predictions of the model change.
    pub loss: f64,
}

/// The index of the choice for each module, so that the sum of losses is as small as `most_bytes` allow; `Err` with the
/// fewest bytes that there are if those are more.
///
/// Begins with the smallest and takes, as long as it fits, the step that gains most per byte, along the lower convex hull
/// of each module's choices. That is the best there is for every size at which such a step ends.
/// # Panics
/// If a module has no choice.
pub(super) fn allocate(modules: &[Sensitivity], most_bytes: u64) -> Result<Vec<usize>, u64> {
    let hulls: Vec<Vec<usize>> = modules.iter().map(|module| hull(&module.choices)).collect();
    let mut places = vec![0; modules.len()];
    let mut bytes: u64 = modules.iter().zip(&hulls).map(|(module, hull)| module.choices[hull[0]].bytes).sum();
    if bytes > most_bytes {
        return Err(bytes);
    }
    let step = |module: usize, place: usize| {
        let (choices, hull) = (&modules[module].choices, &hulls[module]);
        let (from, to) = (choices[hull[place]], choices[*hull.get(place + 1)?]);
        Some((to.bytes - from.bytes, (from.loss - to.loss) / (to.bytes - from.bytes) as f64))
    };
    loop {
        let steps = (0..modules.len()).filter_map(|module| Some((module, step(module, places[module])?)));
        let fitting = steps.filter(|(_, (more, _))| bytes + more <= most_bytes);
        // The first of equals, whatever the order of comparison.
        let best = fitting.reduce(|best, next| if next.1.1 > best.1.1 { next } else { best });
        let Some((module, (more, _))) = best else { break };
        bytes += more;
        places[module] += 1;
    }
    Ok(places.into_iter().zip(hulls).map(|(place, hull)| hull[place]).collect())
}

/// The largest choice that all modules can have within `most_bytes`, if there is one.
pub(super) fn alike(modules: &[Sensitivity], most_bytes: u64) -> Option<Vec<usize>> {
    let alike = (0..).map(|choice| vec![choice; modules.len()]);
    let fits = |alike: &Vec<usize>| totals(modules, alike).is_some_and(|(bytes, _)| bytes <= most_bytes);
    alike.take_while(fits).last()
}

/// Bytes and loss of a choice for each module, if all have it.
pub(super) fn totals(modules: &[Sensitivity], chosen: &[usize]) -> Option<(u64, f64)> {
    let add = |(bytes, loss), (module, choice): (&Sensitivity, &usize)| {
        let choice = module.choices.get(*choice)?;
        Some((bytes + choice.bytes, loss + choice.loss))
    };
    modules.iter().zip(chosen).try_fold((0, 0.0), add)
}

/// The choices on the lower convex hull of loss over bytes, by rising size.
fn hull(choices: &[Choice]) -> Vec<usize> {
    let slope = |from: usize, to: usize| {
        (choices[to].loss - choices[from].loss) / (choices[to].bytes - choices[from].bytes) as f64
    };
    let mut hull: Vec<usize> = Vec::new();
    for next in 0..choices.len() {
        // More bytes that lose more are no choice.
        if hull.last().is_some_and(|last| choices[next].loss >= choices[*last].loss) {
            continue;
        }
        while let [.., before, last] = hull[..] {
            if slope(before, last) < slope(last, next) {
                break;
            }
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

#[cfg(test)]
mod tests {
    use smelt_testkit::numbers;

    use super::*;

    const BITS: [u32; 5] = [2, 3, 4, 6, 8];

    /// Modules of some sizes, whose losses fall by about 4 with each bit.
    fn modules(count: usize, seed: u32) -> Vec<Sensitivity> {
        let numbers = numbers(2 * count, seed);
        let module = |index: usize| {
            let values = 1000 * (1 + (index as u64 * 7) % 5);
            let weight = f64::from(numbers[index] * 4.0).exp();
            let choice = |(at, bits): (usize, &u32)| {
                let noise = 1.0 + 0.2 * f64::from(numbers[count + (index + at) % count]);
                let loss = weight * noise * 4f64.powi(-(*bits as i32));
                Choice { bits: *bits, bytes: values * u64::from(*bits) / 8, loss }
            };
            Sensitivity { module: index.to_string(), choices: BITS.iter().enumerate().map(choice).collect() }
        };
        (0..count).map(module).collect()
    }

    /// All ways to choose, one after the other.
    fn best_of_all(modules: &[Sensitivity], most_bytes: u64) -> f64 {
        let ways = BITS.len().pow(modules.len() as u32);
        let way = |way: usize| -> Vec<usize> {
            (0..modules.len()).map(|at| way / BITS.len().pow(at as u32) % BITS.len()).collect()
        };
        let fitting =
            (0..ways).filter_map(|at| totals(modules, &way(at))).filter(|(bytes, _)| *bytes <= most_bytes);
        fitting.map(|(_, loss)| loss).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn sizes_hold_and_losses_are_nearly_the_least_there_are() {
        for seed in 0..8 {
            let modules = modules(6, seed);
            for most_bytes in [5_000, 6_500, 8_000, 11_000, 14_000] {
                let chosen = allocate(&modules, most_bytes).unwrap();
                let (bytes, loss) = totals(&modules, &chosen).unwrap();
                assert!(bytes <= most_bytes);
                let best = best_of_all(&modules, most_bytes);
                // What is left over at the end is less than one step.
                assert!(loss <= 2.0 * best, "{seed}, {most_bytes}: {loss} against {best}");
            }
        }
    }

    #[test]
    fn many_modules_lose_less_than_with_one_width_for_all() {
        for seed in 0..20 {
            let modules = modules(40, seed);
            for (width, bits) in BITS.iter().enumerate() {
                let uniform = vec![width; modules.len()];
                let (bytes, lost) = totals(&modules, &uniform).unwrap();
                assert_eq!(alike(&modules, bytes), Some(uniform));
                let (_, loss) = totals(&modules, &allocate(&modules, bytes).unwrap()).unwrap();
                assert!(loss <= lost, "{seed}, {bits} bits: {loss} against {lost}");
            }
            assert_eq!(alike(&modules, 100), None);
        }
    }

    #[test]
    fn too_small_a_size_is_refused_with_the_smallest_there_is() {
        let modules = modules(6, 1);
        let (smallest, _) = totals(&modules, &[0; 6]).unwrap();
        assert_eq!(allocate(&modules, smallest), Ok(vec![0; 6]));
        assert_eq!(allocate(&modules, smallest - 1), Err(smallest));
        let (largest, _) = totals(&modules, &[4; 6]).unwrap();
        assert_eq!(allocate(&modules, 2 * largest), Ok(vec![4; 6]));
    }
}
