-- answers (question, position, key, score) -> candidates: every two answers of a question whose scores
-- differ enough, the higher one chosen.
CREATE OR REPLACE TEMP VIEW candidates AS
SELECT
    better.question, better.position AS chosen, worse.position AS rejected,
    better.score - worse.score AS margin, better.key AS chosen_key, worse.key AS rejected_key
FROM answers AS better
JOIN answers AS worse USING (question)
WHERE better.score - worse.score >= getvariable('min_margin');
