-- posts (row, question, key, post_id, is_question, net_votes, accepted_answer_id, author, is_closed,
-- is_wiki, is_meta, age_days) -> judged: every post with the reason why it is left out, or null.
-- `question` numbers the questions in the global order; `row` is the post's place in the text table.
CREATE OR REPLACE TEMP TABLE judged AS
WITH counted AS (
    SELECT *, row_number() OVER (PARTITION BY question, post_id ORDER BY row) AS copy
    FROM posts
), questions AS (
    SELECT *,
        CASE
            WHEN copy > 1 THEN 'repeated_post'
            WHEN getvariable('meta_sites') = 'drop' AND is_meta THEN 'meta_site'
            WHEN getvariable('meta_sites') = 'only' AND NOT is_meta THEN 'no_meta_site'
            WHEN getvariable('closed_questions') = 'drop' AND is_closed THEN 'closed_question'
            WHEN getvariable('community_wiki') = 'drop' AND is_wiki THEN 'community_wiki'
            WHEN getvariable('deleted_authors') = 'drop' AND author IS NULL THEN 'deleted_author'
        END AS reason
    FROM counted
    WHERE is_question
), answers AS (
    SELECT
        answer.row, answer.question, answer.key, answer.post_id, FALSE AS is_question,
        answer.net_votes,
        coalesce(answer.post_id = asked.accepted_answer_id, FALSE) AS is_accepted,
        CASE
            WHEN answer.copy > 1 THEN 'repeated_post'
            WHEN asked.question IS NULL THEN 'orphan_answer'
            WHEN asked.reason IS NOT NULL THEN asked.reason
            WHEN getvariable('community_wiki') = 'drop' AND answer.is_wiki THEN 'community_wiki'
            WHEN getvariable('deleted_authors') = 'drop' AND answer.author IS NULL
                THEN 'deleted_author'
            WHEN getvariable('self_answers') = 'drop' AND answer.author = asked.author
                THEN 'self_answer'
            WHEN answer.net_votes < getvariable('min_votes') THEN 'too_few_votes'
            WHEN answer.age_days < getvariable('min_age_days') THEN 'too_young'
        END AS reason
    FROM counted AS answer
    LEFT JOIN questions AS asked ON asked.question = answer.question AND asked.copy = 1
    WHERE NOT answer.is_question
)
SELECT row, question, key, post_id, is_question, is_accepted, reason,
    net_votes + CASE WHEN is_accepted THEN getvariable('accepted_bonus') ELSE 0 END AS score
FROM answers
UNION ALL
SELECT row, question, key, post_id, TRUE, FALSE, reason, net_votes
FROM questions;

-- What may stand in a pair, numbered within its question.
CREATE OR REPLACE TEMP TABLE answers AS
SELECT row, question, key, post_id, score, is_accepted,
    row_number() OVER (PARTITION BY question ORDER BY row) - 1 AS position
FROM judged
WHERE NOT is_question AND reason IS NULL;
