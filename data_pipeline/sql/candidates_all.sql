-- answers (question, order_key, position, post_id, score) -> candidates: every two answers of a
-- question whose scores differ enough, the higher one chosen.
CREATE OR REPLACE TEMP VIEW candidates AS
SELECT
    better.question, better.order_key, better.position AS chosen, worse.position AS rejected,
    better.score - worse.score AS margin, better.post_id AS chosen_id, worse.post_id AS rejected_id
FROM answers AS better
JOIN answers AS worse USING (question)
WHERE better.score - worse.score >= getvariable('min_margin');
