//! The built-in text embedder: all-MiniLM-L6-v2, int8, inside the binary, run by `rten`. It needs no file, no native
//! library and no network, and knows nothing of other embedders.
//!
//! Mean of the token vectors, then L2 norm, as its authors define it (sentence-transformers).
//!
//! **Every text is its own run**, on one thread, several at a time. The model quantises its activations by the range of
//! the whole input tensor, so in a shared run a text's vector would depend on its neighbours and their padding; alone,
//! the same text always has the same vector. With packed weights it costs nothing: 66 tokens of one text feed the
//! matrix kernels as well as 66 x 32 do, and no padding is computed.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool};
use rten_tensor::NdTensor;

use super::tokens::TextTokenizer;
use super::vector::unit;
use super::{Embedder, EmbedderInfo};
use crate::error::{Error, ErrorKind, Result};

/// Name of the built-in text embedder.
pub const MINILM: &str = "minilm";

/// Components of its vectors.
pub const DIMENSION: u32 = 384;

/// Most tokens of a text, start and end token included; the limit it was trained with.
pub const MAX_TOKENS: usize = 256;

/// First 16 hexadecimal digits of the BLAKE3 hash of weights and tokenizer, one behind the other. A test compares.
const WEIGHTS_HASH: &str = "090a68050313ef75";

/// More threads than this are not started, whatever the machine has.
const MAX_THREADS: usize = 64;

/// Threads that serve queries only, so that they never wait for documents.
const MAX_QUERY_THREADS: usize = 4;

static WEIGHTS: &[u8] = include_bytes!("../../models/all-MiniLM-L6-v2/model_int8.onnx");
static TOKENIZER: &[u8] = include_bytes!("../../models/all-MiniLM-L6-v2/tokenizer.json");

/// all-MiniLM-L6-v2: 384 components, at most 256 tokens.
pub struct MiniLm {
    info: EmbedderInfo,
    tokenizer: TextTokenizer,
    model: Model,
    nodes: Nodes,
    /// One thread each.
    document_pools: Vec<Arc<ThreadPool>>,
    query_pools: Pools,
}

/// Inputs and the output of the model.
#[derive(Clone, Copy)]
struct Nodes {
    input_ids: NodeId,
    attention_mask: NodeId,
    token_type_ids: NodeId,
    hidden: NodeId,
}

impl MiniLm {
    /// What is known of it; loads nothing.
    pub fn describe(name: &str) -> EmbedderInfo {
        EmbedderInfo {
            name: name.to_owned(),
            dimension: DIMENSION,
            max_tokens: MAX_TOKENS,
            fingerprint: format!("minilm-l6-v2-int8/blake3-{WEIGHTS_HASH}/d{DIMENSION}/mean/l2/{MAX_TOKENS}"),
        }
    }

    /// Loads weights and tokenizer and runs the model once. Takes some tens of milliseconds and about 70 MB.
    pub fn load(name: &str) -> Result<Self> {
        let model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load_static_slice(WEIGHTS)
            .map_err(|error| broken(format!("the built-in model can't be loaded: {error}")))?;
        let node = |name: &str| model.node_id(name).map_err(|error| broken(error.to_string()));
        let nodes = Nodes {
            input_ids: node("input_ids")?,
            attention_mask: node("attention_mask")?,
            token_type_ids: node("token_type_ids")?,
            hidden: node("last_hidden_state")?,
        };
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let embedder = Self {
            info: Self::describe(name),
            tokenizer: TextTokenizer::from_json(TOKENIZER, MAX_TOKENS)?,
            model,
            nodes,
            document_pools: one_thread_pools(cores.min(MAX_THREADS)),
            query_pools: Pools::new(one_thread_pools(cores.min(MAX_QUERY_THREADS))),
        };
        for pool in &embedder.query_pools.all {
            embedder.embed_on(pool, "warm up")?;
        }
        Ok(embedder)
    }

    /// Vector of one text, computed on `pool`. Called from the pool's own thread it starts at once.
    fn embed_on(&self, pool: &Arc<ThreadPool>, text: &str) -> Result<Vec<f32>> {
        let ids = self.tokenizer.ids(text)?;
        let shape = [1, ids.len()];
        let mask = vec![1_i32; ids.len()];
        let types = vec![0_i32; ids.len()];
        let inputs = vec![
            (self.nodes.input_ids, NdTensor::from_data(shape, ids).into()),
            (self.nodes.attention_mask, NdTensor::from_data(shape, mask).into()),
            (self.nodes.token_type_ids, NdTensor::from_data(shape, types).into()),
        ];
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(pool)));
        let [hidden] = self
            .model
            .run_n(inputs, [self.nodes.hidden], Some(options))
            .map_err(|error| broken(format!("the built-in model failed: {error}")))?;
        let ([_, tokens, width], hidden) = hidden
            .into_shape_vec::<f32, 3>()
            .map_err(|error| broken(format!("the built-in model's output: {error}")))?;
        if width != DIMENSION as usize || tokens == 0 {
            return Err(broken(format!("the built-in model made {tokens} x {width} components")));
        }
        unit(sum_of_rows(&hidden, width))
    }
}

impl Embedder for MiniLm {
    fn info(&self) -> &EmbedderInfo {
        &self.info
    }

    fn token_spans(&self, text: &str) -> Result<Vec<Range<usize>>> {
        self.tokenizer.spans(text)
    }

    fn embed_documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        // Longest first: the threads end together.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&at| std::cmp::Reverse(texts.get(at).map_or(0, |text| text.len())));
        let next = AtomicUsize::new(0);
        let take = |pool: &Arc<ThreadPool>| -> Result<Vec<(usize, Vec<f32>)>> {
            pool.run(|| {
                let mut done = Vec::new();
                while let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let text = texts.get(at).copied().unwrap_or_default();
                    done.push((at, self.embed_on(pool, text)?));
                }
                Ok(done)
            })
        };
        let mut vectors = vec![Vec::new(); texts.len()];
        let parts: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
            let pools = self.document_pools.iter().take(texts.len());
            let threads: Vec<_> = pools.map(|pool| scope.spawn(|| take(pool))).collect();
            let failed = || Err(broken("a thread of the built-in model failed"));
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| failed())).collect()
        });
        for part in parts {
            for (at, vector) in part? {
                if let Some(slot) = vectors.get_mut(at) {
                    *slot = vector;
                }
            }
        }
        Ok(vectors)
    }

    fn embed_query(&self, text: &str) -> Result<Vec<f32>> {
        self.query_pools.with(|pool| pool.run(|| self.embed_on(pool, text)))
    }
}

impl std::fmt::Debug for MiniLm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MiniLm").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Thread pools that are lent one by one; when all are out, they are shared in turn.
struct Pools {
    all: Vec<Arc<ThreadPool>>,
    free: Mutex<Vec<usize>>,
    turn: AtomicUsize,
}

impl Pools {
    fn new(all: Vec<Arc<ThreadPool>>) -> Self {
        let free = Mutex::new((0..all.len()).collect());
        Self { all, free, turn: AtomicUsize::new(0) }
    }

    fn with<R>(&self, work: impl FnOnce(&Arc<ThreadPool>) -> Result<R>) -> Result<R> {
        let lent = self.free.lock().pop();
        let at = lent.unwrap_or_else(|| self.turn.fetch_add(1, Ordering::Relaxed) % self.all.len().max(1));
        let result = self.all.get(at).ok_or_else(|| broken("no thread")).and_then(work);
        self.free.lock().extend(lent);
        result
    }
}

fn one_thread_pools(count: usize) -> Vec<Arc<ThreadPool>> {
    (0..count.max(1)).map(|_| Arc::new(ThreadPool::with_num_threads(1))).collect()
}

/// Sum over the rows of a matrix; as good as their mean where the length is normalised afterwards.
fn sum_of_rows(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0_f32; width];
    for row in rows.chunks_exact(width) {
        for (total, value) in sum.iter_mut().zip(row) {
            *total += value;
        }
    }
    sum
}

fn broken(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests;
