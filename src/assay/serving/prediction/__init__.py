"""A prediction in process: checked, made, or refused with a reason.

1. :mod:`~assay.serving.prediction.predictor` checks names, order, types, manifest, age and the kill
   switch (:mod:`~assay.serving.prediction.kill_switch`), and answers;
   :mod:`~assay.serving.prediction.predictions` are its values.
2. :mod:`~assay.serving.prediction.admission` refuses what must not be predicted;
   :mod:`~assay.serving.prediction.neutral` answers while predictions are switched off.
3. :mod:`~assay.serving.prediction.service_record` is what a process wrote down of itself: what it
   loaded, what failed, who switched it off.
"""
