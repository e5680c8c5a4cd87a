//! The prefixes that models of fastembed's list were trained with, as their model cards give them. A model that is not
//! here takes plain text.

use fastembed::EmbeddingModel;

/// (before queries, before documents).
pub(super) fn trained_with(model: &EmbeddingModel) -> (&'static str, &'static str) {
    use EmbeddingModel as M;
    match model {
        M::MultilingualE5Small | M::MultilingualE5Base | M::MultilingualE5Large => ("query: ", "passage: "),
        M::NomicEmbedTextV1 | M::NomicEmbedTextV15 | M::NomicEmbedTextV15Q | M::ModernBertEmbedLarge => {
            ("search_query: ", "search_document: ")
        }
        M::BGESmallENV15
        | M::BGESmallENV15Q
        | M::BGEBaseENV15
        | M::BGEBaseENV15Q
        | M::BGELargeENV15
        | M::BGELargeENV15Q
        | M::MxbaiEmbedLargeV1
        | M::MxbaiEmbedLargeV1Q
        | M::SnowflakeArcticEmbedXS
        | M::SnowflakeArcticEmbedXSQ
        | M::SnowflakeArcticEmbedS
        | M::SnowflakeArcticEmbedSQ
        | M::SnowflakeArcticEmbedM
        | M::SnowflakeArcticEmbedMQ
        | M::SnowflakeArcticEmbedMLong
        | M::SnowflakeArcticEmbedMLongQ
        | M::SnowflakeArcticEmbedL
        | M::SnowflakeArcticEmbedLQ => ("Represent this sentence for searching relevant passages: ", ""),
        M::BGESmallZHV15 | M::BGELargeZHV15 => ("为这个句子生成表示以用于检索相关文章：", ""),
        M::EmbeddingGemma300M | M::EmbeddingGemma300MQ | M::EmbeddingGemma300MQ4 => {
            ("task: search result | query: ", "title: none | text: ")
        }
        _ => ("", ""),
    }
}
